"""Describe what is known of an account's health, as processes tell each other and administrators see it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

ConditionState: TypeAlias = Literal["cooling", "parked", "dead", "open", "removed", "no_reasoning"]
Control: TypeAlias = Literal["enabled", "draining", "disabled"]

SEVERITY: Mapping[ConditionState, int] = MappingProxyType({"open": 1, "parked": 2, "dead": 3})
"""The states that only a probe ends, once one is granted after the rest, by severity; the worst has the most."""

PROBED: frozenset[ConditionState] = frozenset(SEVERITY)


@dataclass(frozen=True, slots=True)
class Condition:
    """Keep an account, or one model of it ("" is all of them), unused for `rest` seconds from now.

    cooling: rate-limited, usable after its rest. parked: its quota is spent. dead: its key is not accepted. open: five
    calls in a row failed. removed: it does not have this model. `step` counts the failures in a row that made the rest
    longer, from 0. `reason` is for people: a status and a code, never upstream's text.

    An account has the worst condition that only a probe ends, and beside it a cooling, which ends by time: neither
    hides the other. `is_of_probe`: a probe found the condition, which replaces a worse one.

    no_reasoning is of one model of an upstream, by its name in place of an account's: for so long it is not asked for
    encrypted reasoning, which it refuses.
    """

    account: str
    model: str
    state: ConditionState
    rest: float
    step: int
    reason: str
    is_of_probe: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """End a condition of an account, or of one model of it, in this state or a milder one. Cooling goes on."""

    account: str
    model: str
    state: ConditionState = "dead"


@dataclass(frozen=True, slots=True)
class AccountState:
    """Describe an account for administrators. `rest` is in seconds; `remaining_*` is what upstream said last, or None.

    `state` is the account's condition, what an administrator set, or "usable". `key_name` is None for a key without a
    name. `conditions` are those of single models.
    """

    name: str
    upstream: str
    key_name: str | None
    tier: int
    weight: float
    state: ConditionState | Literal["usable", "draining", "disabled"]
    conditions: tuple[Condition, ...]
    rest: float
    reason: str | None
    in_flight: int
    remaining_requests: int | None
    remaining_tokens: int | None
