"""What is known of an account's health, as processes tell each other. Pure: who finds it out is not here."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Ailment: TypeAlias = Literal["cooling", "parked", "dead", "open", "removed", "no_reasoning"]
Control: TypeAlias = Literal["enabled", "draining", "disabled"]

SEVERITY: Mapping[Ailment, int] = MappingProxyType({"open": 1, "parked": 2, "dead": 3})
"""What does not end by itself: after its rest one call may probe it, once that is granted. The worst has the most."""

PROBED: frozenset[Ailment] = frozenset(SEVERITY)


@dataclass(frozen=True, slots=True)
class Condition:
    """An account, or one model of it ("" is all of them), is not to be used for `rest` seconds from now.

    cooling: rate-limited, usable after its rest. parked: its quota is spent. dead: its key is not accepted. open: five
    calls in a row failed. removed: it does not have this model. `step` counts the failures in a row that made the rest
    longer, from 0. `reason` is for people: a status and a code, never what was said.

    An account has the worst of what only a probe ends, and beside it a cooling, which ends by time: neither hides the
    other. `is_of_probe`: a probe found it, so that it holds in the place of what was worse.

    no_reasoning is said of an upstream, by its name in place of an account's, and one model: for so long it is not
    asked for encrypted reasoning, which it refuses.
    """

    account: str
    model: str
    state: Ailment
    rest: float
    step: int
    reason: str
    is_of_probe: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """The account, or one model of it, serves again: this ailment of it is over, and what is milder. Cooling is not."""

    account: str
    model: str
    ailment: Ailment = "dead"


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account as administrators see it. `rest` is in seconds; `remaining_*` is what upstream said last, or None.

    `state` is the account's condition, what an administrator made of it, or "usable". `key_name` is None for a key
    without a name. `conditions` are those of single models.
    """

    name: str
    upstream: str
    key_name: str | None
    tier: int
    weight: float
    state: Ailment | Literal["usable", "draining", "disabled"]
    conditions: tuple[Condition, ...]
    rest: float
    reason: str | None
    in_flight: int
    remaining_requests: int | None
    remaining_tokens: int | None
