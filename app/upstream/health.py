"""What an account's faults make of it, and for how long. Pure: must not know other accounts, nor what time it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.state.health import PROBED, SEVERITY, Ailment, Condition, Recovery
from app.upstream.faults import Blame, Fault

_FAILURES_TO_OPEN = 5
_NOT_LONGER_SECONDS = 1.0
# By how much of itself a rest may be longer, so that keys which died together are not probed together.
_JITTER = 0.1
# A limit that is said to end at once would be asked about again and again. An account rests this long at the least, and
# twice as long after each that follows without an answer in between.
_SHORTEST_COOLING_SECONDS = 1.0
_MOST_DOUBLINGS = 3
_REMOVED_SECONDS = 3600.0
_UNCONFIRMED_SECONDS = 60.0
_MOST_MODELS = 256

_STATES: dict[Blame, Ailment] = {"key": "dead", "quota": "parked", "rate": "cooling"}


@dataclass(slots=True)
class Illness:
    """A condition with its end in monotonic time. When its time is up it may be probed, once that `is_granted`.

    `is_wanted`: a call has come since that would have used the account.
    """

    state: Ailment
    until: float
    step: int
    reason: str
    is_of_probe: bool = False
    is_granted: bool = False
    is_probed: bool = False
    is_wanted: bool = False

    def is_over(self, now: float) -> bool:
        """Whether it ended by itself."""
        return self.until <= now and self.state not in PROBED

    def told(self, account: str, model: str, now: float) -> Condition:
        """It as other processes are told."""
        rest = max(0.0, self.until - now)
        return Condition(account, model, self.state, rest, self.step, self.reason, self.is_of_probe)


@dataclass(slots=True)
class Health:
    """One account's. `illness` is what only a probe ends, `cooling` what ends by time, both of the whole account.

    `models` has what is wrong with single ones.
    """

    illness: Illness | None = None
    cooling: Illness | None = None
    models: dict[str, Illness] = field(default_factory=dict)
    failures: int = 0
    limits: int = 0
    doubted_until: float = -math.inf

    @property
    def is_sound(self) -> bool:
        """Whether there is nothing that a good answer would change."""
        return (
            self.illness is None
            and self.cooling is None
            and not self.failures
            and not self.limits
            and self.doubted_until == -math.inf
        )

    def fail(
        self, fault: Fault, now: float, *, is_probe: bool, cool_down_seconds: float, chance: float
    ) -> Sequence[Illness]:
        """Take note of a fault of a call that was a probe or not; what is new with the account.

        `chance` is a number between 0 and 1.
        """
        if fault.blame in ("server", "unreachable"):
            return self._stumble(fault, now, is_probe=is_probe, doubt_seconds=cool_down_seconds, chance=chance)
        state = _STATES[fault.blame]
        if state == "cooling":
            if is_probe:
                # Who is told of a rate has a key that is accepted, and a quota.
                self.illness = None
            return self._limit(cool_down_seconds if fault.rest is None else fault.rest, fault.reason, now, chance)
        known = self.illness
        if known is not None and not is_probe:
            # Calls that were in flight when it was found say nothing new; only a worse fault does.
            if SEVERITY[state] <= SEVERITY[known.state]:
                return ()
            return (self._set(state, 0, fault.reason, now, chance),)
        step = known.step + 1 if known is not None and known.state == state else 0
        return (self._set(state, step, fault.reason, now, chance, is_of_probe=is_probe),)

    def serve(self, *, is_probe: bool) -> Ailment | None:
        """Take note of an answer; the ailment that is over by it."""
        self.failures = self.limits = 0
        self.doubted_until = -math.inf
        known = self.illness
        if known is None or not (is_probe or known.state == "open"):
            return None
        self.illness = None
        return known.state

    def lack(self, model: str, now: float, reason: str, *, is_confirmed: bool) -> Illness:
        """The account does not have this model: for long, where another that has it confirms that there is one."""
        while len(self.models) >= _MOST_MODELS and model not in self.models:
            del self.models[next(iter(self.models))]
        rest = _REMOVED_SECONDS if is_confirmed else _UNCONFIRMED_SECONDS
        self.models[model] = Illness("removed", now + rest, 0, reason)
        return self.models[model]

    def hear(self, condition: Condition, now: float) -> bool:
        """Take over what another process found; whether that is news. What is known already is not shortened.

        What only a probe ends was merged where it comes from: there a milder ailment does not hide a worse one.
        """
        until = now + condition.rest
        illness = Illness(condition.state, until, condition.step, condition.reason)
        if condition.model:
            known = self.models.get(condition.model)
            if known is not None and known.until >= until - _NOT_LONGER_SECONDS:
                return False
            self.models[condition.model] = illness
            return True
        if condition.state not in PROBED:
            return self._cool(until, condition.reason) is not None
        known = self.illness
        if known is None or known.state != condition.state:
            self.illness = illness
            return True
        if known.until >= until - _NOT_LONGER_SECONDS:
            return False
        # A probe that is under way stays one.
        known.until, known.step, known.is_granted = until, condition.step, False
        return True

    def recover(self, recovery: Recovery) -> bool:
        """Another process was served; whether that is news. A rate limit goes on for as long as upstream said."""
        if recovery.model:
            return self.models.pop(recovery.model, None) is not None
        if self.illness is None or SEVERITY[self.illness.state] > SEVERITY[recovery.ailment]:
            return False
        self.illness = None
        self.failures = 0
        return True

    def ask_again(self, now: float, *, late_seconds: float, rest: float) -> Illness | None:
        """The illness whose time came so long ago without a permission to probe it; it rests for a while more."""
        known = self.illness
        if known is None or known.is_granted or known.is_probed or known.until > now - late_seconds:
            return None
        known.until = now + rest
        return known

    def _stumble(
        self, fault: Fault, now: float, *, is_probe: bool, doubt_seconds: float, chance: float
    ) -> Sequence[Illness]:
        self.failures += 1
        self.doubted_until = now + doubt_seconds
        cooling = self._cool(now + fault.rest, fault.reason) if fault.rest else None
        found = [] if cooling is None else [cooling]
        known = self.illness
        if known is not None and is_probe:
            step = known.step + 1 if known.state == "open" else known.step
            found.append(self._set(known.state, step, fault.reason, now, chance))
        elif known is None and not fault.rest and self.failures >= _FAILURES_TO_OPEN:
            found.append(self._set("open", 0, fault.reason, now, chance))
        return found

    def _limit(self, rest: float, reason: str, now: float, chance: float) -> Sequence[Illness]:
        # Calls that were in flight when the limit was met are the same one.
        if self.cooling is None or self.cooling.is_over(now):
            self.limits += 1
        doublings = min(max(self.limits - 1, 0), _MOST_DOUBLINGS)
        least = math.ldexp(_SHORTEST_COOLING_SECONDS, doublings) * (1 + _JITTER * chance)
        cooling = self._cool(now + max(rest, least), reason)
        return () if cooling is None else (cooling,)

    def _cool(self, until: float, reason: str) -> Illness | None:
        known = self.cooling
        if known is not None and known.until >= until - _NOT_LONGER_SECONDS:
            known.until = max(known.until, until)
            return None
        self.cooling = Illness("cooling", until, 0, reason)
        return self.cooling

    def _set(
        self, state: Ailment, step: int, reason: str, now: float, chance: float, *, is_of_probe: bool = False
    ) -> Illness:
        rest = rest_of(state, step) * (1 + _JITTER * chance)
        self.illness = Illness(state, now + rest, step, reason, is_of_probe)
        return self.illness


def rest_of(state: Ailment, step: int) -> float:
    """Seconds until it is probed. Dead: 30, doubled up to an hour; parked: an hour, up to a day; open: 30 more each."""
    match state:
        case "dead":
            return min(math.ldexp(30.0, min(step, 10)), 3600.0)
        case "parked":
            return min(math.ldexp(3600.0, min(step, 10)), 86_400.0)
        case "open":
            return min(30.0 * (step + 1), 600.0)
        case _:
            return 0.0
