"""Check out accounts for calls, make calls wait for one, and record how each call ended. No I/O."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from app.errors import ApiError
from app.runtime.deadline import Deadline
from app.settings.upstreams import UpstreamSettings
from app.state.account_conditions import PROBED, AccountState, Condition, Control, Recovery
from app.upstream.account import Account, accounts_of_all
from app.upstream.faults.classification import Fault
from app.upstream.faults.pool_exhausted import account_gone
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.cooldown import Cooldown
from app.upstream.pool.encrypted_reasoning import ReasoningRefusals
from app.upstream.pool.member import PoolMember
from app.upstream.pool.members import PoolMembers
from app.upstream.pool.selection import PoolRequest
from app.upstream.pool.wait_queue import WaitingCalls

_LOOK_SECONDS = 1.0  # Waiting calls are served at least this often.
_SHORTEST_LOOK_SECONDS = 0.005
_LATE_SECONDS = 5.0  # A permission to probe comes within a second or two of its time.


class Pool:
    """Check out the accounts of all upstreams for calls. `clock` is monotonic, in seconds.

    `on_change` is called with what is found out about an account; `apply` takes what other processes found. A cooldown
    that is over is probed once that is granted (`grant_probe`); a pool that `is_alone` grants itself. At most
    `most_waiting` calls wait, no longer than `wait_seconds`.
    """

    def __init__(
        self,
        upstreams: Iterable[UpstreamSettings],
        cool_down_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_change: Callable[[Condition | Recovery], None] = lambda _: None,
        is_alone: bool = True,
        wait_seconds: float = 0.0,
        most_waiting: int = 1000,
    ) -> None:
        self._cool_down_seconds = cool_down_seconds
        self._clock = clock
        self._on_change = on_change
        self._is_alone = is_alone
        self._wait_seconds = wait_seconds
        self._most_waiting = most_waiting
        self.reasoning_refusals = ReasoningRefusals(clock, on_change)
        self._members = PoolMembers()
        self._waiting = WaitingCalls()
        self._timer: asyncio.TimerHandle | None = None
        self.configure(accounts_of_all(upstreams))

    @property
    def upstreams(self) -> tuple[UpstreamSettings, ...]:
        """Return the upstreams, in their order."""
        return self._members.upstreams()

    @property
    def wait_seconds(self) -> float:
        """Return how long a call may wait."""
        return self._wait_seconds

    def accounts(self) -> list[Account]:
        """Return all accounts, in their order."""
        return [member.account for member in self._members]

    def account(self, name: str) -> Account | None:
        """Return the account of this name."""
        member = self._members.get(name)
        return None if member is None else member.account

    def first(self, request: PoolRequest) -> Account:
        """Return the account that would be used now. Raises as `exhausted` returns, and for a model none serves."""
        member, _ = self._members.next(request, (), self._clock())
        if member is None:
            raise self.exhausted(request)
        return member.account

    def enter(self, request: PoolRequest) -> Checkout | None:
        """Check out an account for a call that begins; None when there is none, or other calls wait already."""
        if self._waiting.queues and self._waiting.has(request):
            return None
        return self.take(request)

    def take(self, request: PoolRequest, tried: Collection[str] = ()) -> Checkout | None:
        """Check out the account to try next, none of those `tried`; None when there is none now.

        Raises InvalidRequestError (no upstream serves the model) or UpstreamError (the account in `only` is gone).
        """
        now = self._clock()
        member, wanted = self._members.next(request, tried, now)
        if member is None:
            return None
        checkout = Checkout(member, request.model_there, self._ended, wanted)
        if member.caps is not None and member.is_full_by_one_more(now):
            self._members.changed()
        cooldown = member.health.probed_cooldown
        if cooldown is not None and cooldown.is_granted and cooldown.until <= now and not cooldown.is_probed:
            cooldown.is_probed = True
            checkout.probed = cooldown
            self._members.changed()
        return checkout

    async def wait(self, request: PoolRequest, seconds: float) -> Checkout:
        """Wait for an account to check out, in turn among projects, first come first served within one.

        Raises what `exhausted` returns: at once where none is back within these seconds, or too many wait.
        """
        if (
            seconds <= 0
            or self._members.soonest(request, self._clock()) > seconds
            or self._waiting.count >= self._most_waiting
        ):
            raise self.exhausted(request)
        waiter = self._waiting.join(request)
        self._set_timer()
        try:
            with Deadline(seconds).block():
                return await waiter.granted
        except TimeoutError:
            self._waiting.leave(waiter)
            raise self.exhausted(request) from None
        except asyncio.CancelledError:
            self._waiting.leave(waiter)
            raise

    def checkout(self, account: Account) -> Checkout:
        """Check out exactly this account, whatever its health."""
        member = self._member(account)
        checkout = Checkout(member, "", self._ended)
        if member.caps is not None and member.is_full_by_one_more(self._clock()):
            self._members.changed()
        return checkout

    def serve(self, checkout: Checkout, headers: Mapping[bytes, bytes]) -> None:
        """Record that the account answered, with these headers."""
        member = checkout.member
        member.note_rate_limit_headers(headers, self._clock())
        if not member.health.is_healthy:
            over = member.health.serve(is_probe=checkout.probed is not None)
            if over is not None:
                self._on_change(Recovery(member.account.name, "", over))
            checkout.probed = None
            self._members.changed()
        if self._waiting.queues:
            # Two wake for each answer, so that calls do not all come at once at the end of a cooldown.
            self._wake(2)

    def fail(self, checkout: Checkout, fault: Fault) -> None:
        """Record that the account did not answer, and begin the cooldowns that its fault causes."""
        member, now = checkout.member, self._clock()
        is_probe = checkout.probed is not None and checkout.probed is member.health.probed_cooldown
        if fault.blame == "model":
            member.health.mark_model_missing(checkout.model, now, fault.reason, is_confirmed=False)
        elif fault.blame not in {"content", "size", "unfit"} and not fault.is_stale and not fault.is_local:
            for other in self._members.in_same_quota_group(member) if fault.blame in {"rate", "quota"} else (member,):
                known = other.health.probed_cooldown
                for cooldown in other.health.fail(
                    fault,
                    now,
                    is_probe=is_probe and other is member,
                    cool_down_seconds=self._cool_down_seconds,
                    chance=random.random(),  # noqa: S311 - it spreads load
                ):
                    self._publish(other, cooldown, "", now)
                if known is not None and other.health.probed_cooldown is None:
                    self._on_change(Recovery(other.account.name, "", known.state))
            if fault.blame == "unreachable":
                for other in self._members.of_same_upstream(member):
                    other.health.suspect_until = now + self._cool_down_seconds
        self._changed()

    def confirm_model_missing(self, account: Account, model: str, reason: str) -> None:
        """Lengthen the cooldown of a model that this account lacks: another account has served it."""
        member, now = self._members.get(account.name), self._clock()
        if member is not None:
            self._publish(member, member.health.mark_model_missing(model, now, reason, is_confirmed=True), model, now)
            self._members.changed()

    def apply(self, news: Sequence[Condition | Recovery]) -> None:
        """Apply what other processes found. Only a recovery shortens a known cooldown."""
        now = self._clock()
        is_news = False
        for one in news:
            if (member := self._members.get(one.account)) is None:
                self.reasoning_refusals.apply(one)
            elif isinstance(one, Recovery):
                is_news |= member.health.recover(one)
            elif member.health.apply_condition(one, now):
                is_news = True
                if self._is_alone and member.health.probed_cooldown is not None:
                    member.health.probed_cooldown.is_granted = True
        if is_news:
            self._changed()

    def wants_probe(self, account: str) -> bool:
        """Tell whether a call of this process would use the account if it were healthy."""
        member = self._members.get(account)
        cooldown = None if member is None else member.health.probed_cooldown
        return cooldown is not None and cooldown.is_wanted

    def grant_probe(self, account: str, model: str) -> None:
        """Let the next call probe the account, now that its cooldown is over."""
        member = self._members.get(account)
        cooldown = None if member is None or model else member.health.probed_cooldown
        if cooldown is not None and cooldown.state in PROBED:
            cooldown.is_granted = True
            cooldown.is_wanted = False
            cooldown.until = min(cooldown.until, self._clock())
            self._changed()

    def ask_again(self, rest: float) -> None:
        """Report again the cooldowns whose probe is long due and granted to nobody; they last `rest` seconds more."""
        now = self._clock()
        for member in self._members:
            if (cooldown := member.health.ask_again(now, late_seconds=_LATE_SECONDS, rest=rest)) is not None:
                self._publish(member, cooldown, "", now)
                self._members.changed()

    def configure(self, accounts: Iterable[Account]) -> None:
        """Replace the accounts. Those that stay keep their calls in flight, their health and control."""
        self._members.configure(accounts)
        self._changed()

    def control(self, account: str, control: Control) -> None:
        """Take the account out of service or back. One that is draining serves only what no other can."""
        member = self._members.get(account)
        if member is not None and member.control != control:
            member.control = control
            self._changed()

    def report(self) -> list[AccountState]:
        """Describe all accounts for administrators, in their order."""
        now = self._clock()
        return [member.report(now) for member in self._members]

    def in_flight(self, account: Account) -> int:
        """Return the calls in flight on this account."""
        return self._member(account).in_flight

    def rest(self, account: Account) -> float:
        """Return seconds until the account may be used again; 0 when it may be now."""
        return self._member(account).rest(self._clock())

    def exhausted(self, request: PoolRequest) -> ApiError:
        """Return the error of a call for which there is no account now, with the true time to retry."""
        return self._members.exhausted(request, self._clock())

    def _member(self, account: Account) -> PoolMember:
        member = self._members.get(account.name)
        if member is None:
            raise account_gone()
        return member

    def _ended(self, checkout: Checkout) -> None:
        if checkout.fault is not None:
            self.fail(checkout, checkout.fault)
        if checkout.probed is not None:
            # The probe found out nothing, as when its client left. Another call may.
            checkout.probed.is_probed = False
            self._members.changed()
        if checkout.member.caps is not None and checkout.member.is_freed_by_one_less(checkout.entry, self._clock()):
            self._members.changed()
        if self._waiting.queues:
            self._wake(1)

    def _publish(self, member: PoolMember, cooldown: Cooldown, model: str, now: float) -> None:
        cooldown.is_granted = self._is_alone
        self._on_change(cooldown.as_condition(member.account.name, model, now))

    def _changed(self) -> None:
        self._members.changed()
        if self._waiting.queues:
            self._wake(1)

    def _wake(self, most: int) -> None:
        """Serve up to `most` calls of each queue, and refuse those that no account will serve."""
        now = self._clock()
        for request in self._waiting.requests():
            error = self._members.unservable_error(request, now)
            if error is not None:
                self._waiting.give_up(request, error)
        self._waiting.hand_out(self.take, most)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting.queues:
            now = self._clock()
            soonest = min(self._members.soonest(request, now) for request in self._waiting.requests())
            delay = min(_LOOK_SECONDS, max(_SHORTEST_LOOK_SECONDS, soonest))
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake, 1)
