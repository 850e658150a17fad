"""Keep the health of one account: the cooldowns that its faults cause, how long they last, and how they end. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.state.account_conditions import PROBED, SEVERITY, Condition, ConditionState, Recovery
from app.upstream.faults.classification import Blame, Fault

_FAILURES_TO_OPEN = 5
_NOT_LONGER_SECONDS = 1.0
# By this share a cooldown may be longer, so that keys which died together are not probed together.
_JITTER = 0.1
# The least cooldown of a rate limit, also of one that is said to end at once. It is doubled after each further limit
# without an answer in between.
_SHORTEST_COOLING_SECONDS = 1.0
_MOST_DOUBLINGS = 3
_REMOVED_SECONDS = 3600.0
_UNCONFIRMED_SECONDS = 60.0
_MOST_MODELS = 256

_STATES: dict[Blame, ConditionState] = {"key": "dead", "quota": "parked", "rate": "cooling"}


@dataclass(slots=True)
class Cooldown:
    """Keep an account unused until a monotonic time, after which it may be probed, once that `is_granted`.

    `is_wanted`: a call has come since that would have used the account.
    """

    state: ConditionState
    until: float
    step: int
    reason: str
    is_of_probe: bool = False
    is_granted: bool = False
    is_probed: bool = False
    is_wanted: bool = False

    def is_over(self, now: float) -> bool:
        """Tell whether the cooldown has ended by time alone."""
        return self.until <= now and self.state not in PROBED

    def as_condition(self, account: str, model: str, now: float) -> Condition:
        """Convert the cooldown to the condition that other processes are sent."""
        rest = max(0.0, self.until - now)
        return Condition(account, model, self.state, rest, self.step, self.reason, self.is_of_probe)


@dataclass(slots=True)
class AccountHealth:
    """Track an account's health. `probed_cooldown` ends by a probe only, `timed_cooldown` by time; both for all models.

    `models` has the cooldowns of single models. Up to `suspect_until` other accounts are preferred.
    """

    probed_cooldown: Cooldown | None = None
    timed_cooldown: Cooldown | None = None
    models: dict[str, Cooldown] = field(default_factory=dict)
    failures: int = 0
    limits: int = 0
    suspect_until: float = -math.inf

    @property
    def is_healthy(self) -> bool:
        """Tell whether a good answer would change nothing."""
        return (
            self.probed_cooldown is None
            and self.timed_cooldown is None
            and not self.failures
            and not self.limits
            and self.suspect_until == -math.inf
        )

    def fail(
        self, fault: Fault, now: float, *, is_probe: bool, cool_down_seconds: float, chance: float
    ) -> Sequence[Cooldown]:
        """Count a fault of a call, which was a probe or not; return the cooldowns that are new.

        `chance` is a number between 0 and 1.
        """
        if fault.blame in ("server", "unreachable"):
            return self._count_failure(fault, now, is_probe=is_probe, suspect_seconds=cool_down_seconds, chance=chance)
        state = _STATES[fault.blame]
        if state == "cooling":
            if is_probe:
                # A rate limit says that the key is accepted and has quota.
                self.probed_cooldown = None
            return self._limit(cool_down_seconds if fault.rest is None else fault.rest, fault.reason, now, chance)
        known = self.probed_cooldown
        if known is not None and not is_probe:
            # Calls in flight when the cooldown began say nothing new; only a worse fault does.
            if SEVERITY[state] <= SEVERITY[known.state]:
                return ()
            return (self._set(state, 0, fault.reason, now, chance),)
        step = known.step + 1 if known is not None and known.state == state else 0
        return (self._set(state, step, fault.reason, now, chance, is_of_probe=is_probe),)

    def serve(self, *, is_probe: bool) -> ConditionState | None:
        """Count an answer; return the state that it ends."""
        self.failures = self.limits = 0
        self.suspect_until = -math.inf
        known = self.probed_cooldown
        if known is None or not (is_probe or known.state == "open"):
            return None
        self.probed_cooldown = None
        return known.state

    def mark_model_missing(self, model: str, now: float, reason: str, *, is_confirmed: bool) -> Cooldown:
        """Cool down one model that the account lacks: for long, once another account confirms that the model exists."""
        while len(self.models) >= _MOST_MODELS and model not in self.models:
            del self.models[next(iter(self.models))]
        rest = _REMOVED_SECONDS if is_confirmed else _UNCONFIRMED_SECONDS
        self.models[model] = Cooldown("removed", now + rest, 0, reason)
        return self.models[model]

    def apply_condition(self, condition: Condition, now: float) -> bool:
        """Apply a condition that another process found; return whether it is news. No known end becomes earlier.

        The store has merged the conditions that only a probe ends: a milder one does not hide a worse one.
        """
        until = now + condition.rest
        cooldown = Cooldown(condition.state, until, condition.step, condition.reason)
        if condition.model:
            known = self.models.get(condition.model)
            if known is not None and known.until >= until - _NOT_LONGER_SECONDS:
                return False
            self.models[condition.model] = cooldown
            return True
        if condition.state not in PROBED:
            return self._cool(until, condition.reason) is not None
        known = self.probed_cooldown
        if known is None or known.state != condition.state:
            self.probed_cooldown = cooldown
            return True
        if known.until >= until - _NOT_LONGER_SECONDS:
            return False
        # A probe that is under way stays one.
        known.until, known.step, known.is_granted = until, condition.step, False
        return True

    def recover(self, recovery: Recovery) -> bool:
        """End what another process saw end; return whether it is news. A rate limit lasts as long as upstream said."""
        if recovery.model:
            return self.models.pop(recovery.model, None) is not None
        if self.probed_cooldown is None or SEVERITY[self.probed_cooldown.state] > SEVERITY[recovery.state]:
            return False
        self.probed_cooldown = None
        self.failures = 0
        return True

    def ask_again(self, now: float, *, late_seconds: float, rest: float) -> Cooldown | None:
        """Return the cooldown whose probe was due so long ago and was granted to nobody; it lasts `rest` more."""
        known = self.probed_cooldown
        if known is None or known.is_granted or known.is_probed or known.until > now - late_seconds:
            return None
        known.until = now + rest
        return known

    def _count_failure(
        self, fault: Fault, now: float, *, is_probe: bool, suspect_seconds: float, chance: float
    ) -> Sequence[Cooldown]:
        self.failures += 1
        self.suspect_until = now + suspect_seconds
        cooling = self._cool(now + fault.rest, fault.reason) if fault.rest else None
        found = [] if cooling is None else [cooling]
        known = self.probed_cooldown
        if known is not None and is_probe:
            step = known.step + 1 if known.state == "open" else known.step
            found.append(self._set(known.state, step, fault.reason, now, chance))
        elif known is None and not fault.rest and self.failures >= _FAILURES_TO_OPEN:
            found.append(self._set("open", 0, fault.reason, now, chance))
        return found

    def _limit(self, rest: float, reason: str, now: float, chance: float) -> Sequence[Cooldown]:
        # Calls in flight when the limit was met met the same limit.
        if self.timed_cooldown is None or self.timed_cooldown.is_over(now):
            self.limits += 1
        doublings = min(max(self.limits - 1, 0), _MOST_DOUBLINGS)
        least = math.ldexp(_SHORTEST_COOLING_SECONDS, doublings) * (1 + _JITTER * chance)
        cooling = self._cool(now + max(rest, least), reason)
        return () if cooling is None else (cooling,)

    def _cool(self, until: float, reason: str) -> Cooldown | None:
        known = self.timed_cooldown
        if known is not None and known.until >= until - _NOT_LONGER_SECONDS:
            known.until = max(known.until, until)
            return None
        self.timed_cooldown = Cooldown("cooling", until, 0, reason)
        return self.timed_cooldown

    def _set(
        self, state: ConditionState, step: int, reason: str, now: float, chance: float, *, is_of_probe: bool = False
    ) -> Cooldown:
        rest = cooldown_seconds(state, step) * (1 + _JITTER * chance)
        self.probed_cooldown = Cooldown(state, now + rest, step, reason, is_of_probe)
        return self.probed_cooldown


def cooldown_seconds(state: ConditionState, step: int) -> float:
    """Return seconds to the probe. Dead: 30, doubled up to an hour; parked: an hour, up to a day; open: 30 each."""
    match state:
        case "dead":
            return min(math.ldexp(30.0, min(step, 10)), 3600.0)
        case "parked":
            return min(math.ldexp(3600.0, min(step, 10)), 86_400.0)
        case "open":
            return min(30.0 * (step + 1), 600.0)
        case _:
            return 0.0
