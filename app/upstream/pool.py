"""The pool: which account serves a call, and what its fate says of the account. Must not know HTTP, nor do any I/O."""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from app.deadline import Deadline
from app.errors import ApiError
from app.settings_upstream import UpstreamSettings
from app.state.health import PROBED, AccountState, Condition, Control, Recovery
from app.upstream.account import Account, accounts_of_all
from app.upstream.choice import Wish
from app.upstream.exhausted import account_gone
from app.upstream.faults import Fault
from app.upstream.health import Illness
from app.upstream.lease import Lease
from app.upstream.refusals import Refusals
from app.upstream.seat import Seat
from app.upstream.seats import Seats
from app.upstream.waiting import WaitingCalls

_LOOK_SECONDS = 1.0  # Waiting calls are looked after at least this often.
_SHORTEST_LOOK_SECONDS = 0.005
_LATE_SECONDS = 5.0  # A permission to probe comes within a look or two of its time.


class Pool:
    """The accounts of all upstreams. `clock` is monotonic, in seconds.

    `on_change` is told at once of what is found out about an account, and `apply` takes what other processes found. An
    account whose back-off is over is probed once that is granted (`grant_probe`); a pool that `is_alone` grants itself.
    A call waits no longer than `wait_seconds`, and no more calls than `most_waiting` do.
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
        self.refusals = Refusals(clock, on_change)
        self._seats = Seats()
        self._waiting = WaitingCalls()
        self._timer: asyncio.TimerHandle | None = None
        self.configure(accounts_of_all(upstreams))

    @property
    def upstreams(self) -> tuple[UpstreamSettings, ...]:
        """The upstreams, in their order."""
        return self._seats.upstreams()

    @property
    def wait_seconds(self) -> float:
        """How long a call may wait."""
        return self._wait_seconds

    def accounts(self) -> list[Account]:
        """All accounts, in their order."""
        return [seat.account for seat in self._seats]

    def account(self, name: str) -> Account | None:
        """The account of this name."""
        seat = self._seats.get(name)
        return None if seat is None else seat.account

    def first(self, wish: Wish) -> Account:
        """The account that would be used now. Raises as `exhausted` returns, and for a model that nobody serves."""
        seat, _ = self._seats.next(wish, (), self._clock())
        if seat is None:
            raise self.exhausted(wish)
        return seat.account

    def enter(self, wish: Wish) -> Lease | None:
        """A lease for a call that begins; None when none can be had, or others were there before."""
        if self._waiting.count and self._waiting.has(wish):
            return None
        return self.take(wish)

    def take(self, wish: Wish, tried: Collection[str] = ()) -> Lease | None:
        """A lease on the account to try next, none of those `tried`; None when none can be had now.

        Raises InvalidRequestError (no upstream serves the model) or UpstreamError (the account in `only` is gone).
        """
        now = self._clock()
        seat, wanted = self._seats.next(wish, tried, now)
        if seat is None:
            return None
        lease = Lease(seat, wish.model, self._ended, wanted)
        if seat.caps is not None and seat.is_full_by_one_more(now):
            self._seats.changed()
        illness = seat.health.illness
        if illness is not None and illness.is_granted and illness.until <= now and not illness.is_probed:
            illness.is_probed = True
            lease.probed = illness
            self._seats.changed()
        return lease

    async def wait(self, wish: Wish, seconds: float) -> Lease:
        """A lease, when there is one again, for calls that come first served in turn among projects.

        Raises what `exhausted` returns: at once where none is back within these seconds, or too many wait.
        """
        if (
            seconds <= 0
            or self._seats.soonest(wish, self._clock()) > seconds
            or self._waiting.count >= self._most_waiting
        ):
            raise self.exhausted(wish)
        waiter = self._waiting.join(wish)
        self._set_timer()
        try:
            with Deadline(seconds).block():
                return await waiter.granted
        except TimeoutError:
            self._waiting.leave(waiter)
            raise self.exhausted(wish) from None
        except asyncio.CancelledError:
            self._waiting.leave(waiter)
            raise

    def lease(self, account: Account) -> Lease:
        """A lease on this very account, however it is."""
        seat = self._seat(account)
        lease = Lease(seat, "", self._ended)
        if seat.caps is not None and seat.is_full_by_one_more(self._clock()):
            self._seats.changed()
        return lease

    def serve(self, lease: Lease, told: Mapping[bytes, bytes]) -> None:
        """The account has answered, with these headers."""
        seat = lease.seat
        seat.observe(told, self._clock())
        if not seat.health.is_sound:
            over = seat.health.serve(is_probe=lease.probed is not None)
            if over is not None:
                self._on_change(Recovery(seat.account.name, "", over))
            lease.probed = None
            self._seats.changed()
        if self._waiting.count:
            # The more are served, the more are let in: they do not all come at once at the end of a rest.
            self._wake(2)

    def fail(self, lease: Lease, fault: Fault) -> None:
        """The account has not answered."""
        seat, now = lease.seat, self._clock()
        is_probe = lease.probed is not None and lease.probed is seat.health.illness
        if fault.blame == "model":
            seat.health.lack(lease.model, now, fault.reason, is_confirmed=False)
        elif fault.blame not in {"content", "size"} and not fault.is_stale and not fault.is_local:
            for other in self._seats.sharing(seat) if fault.blame in {"rate", "quota"} else (seat,):
                known = other.health.illness
                for illness in other.health.fail(
                    fault,
                    now,
                    is_probe=is_probe and other is seat,
                    cool_down_seconds=self._cool_down_seconds,
                    chance=random.random(),  # noqa: S311 - it spreads load
                ):
                    self._tell(other, illness, "", now)
                if known is not None and other.health.illness is None:
                    self._on_change(Recovery(other.account.name, "", known.state))
            if fault.blame == "unreachable":
                for other in self._seats.beside(seat):
                    other.health.doubted_until = now + self._cool_down_seconds
        self._changed()

    def confirm_lack(self, account: Account, model: str, reason: str) -> None:
        """Another account has served the model that this one did not have."""
        seat, now = self._seats.get(account.name), self._clock()
        if seat is not None:
            self._tell(seat, seat.health.lack(model, now, reason, is_confirmed=True), model, now)
            self._seats.changed()

    def apply(self, news: Sequence[Condition | Recovery]) -> None:
        """Take what other processes found. What this one knows is made no shorter, but by a recovery."""
        now = self._clock()
        is_news = False
        for one in news:
            seat = self._seats.get(one.account)
            if seat is None:
                self.refusals.hear(one)
            elif isinstance(one, Recovery):
                is_news |= seat.health.recover(one)
            elif seat.health.hear(one, now):
                is_news = True
                if self._is_alone and seat.health.illness is not None:
                    seat.health.illness.is_granted = True
        if is_news:
            self._changed()

    def wants_probe(self, account: str) -> bool:
        """Whether a call of this process would use the account if it were well."""
        seat = self._seats.get(account)
        return seat is not None and seat.health.illness is not None and seat.health.illness.is_wanted

    def grant_probe(self, account: str, model: str) -> None:
        """Let the next call find out whether the account is well, now that its back-off is over."""
        seat = self._seats.get(account)
        illness = None if seat is None or model else seat.health.illness
        if illness is not None and illness.state in PROBED:
            illness.is_granted = True
            illness.is_wanted = False
            illness.until = min(illness.until, self._clock())
            self._changed()

    def ask_again(self, rest: float) -> None:
        """Tell again what may be probed since long and was granted to nobody; from now it rests for so many seconds."""
        now = self._clock()
        for seat in self._seats:
            if (illness := seat.health.ask_again(now, late_seconds=_LATE_SECONDS, rest=rest)) is not None:
                self._tell(seat, illness, "", now)
                self._seats.changed()

    def configure(self, accounts: Iterable[Account]) -> None:
        """Have these accounts from now on. Those that stay keep their calls in flight, their health and control."""
        self._seats.configure(accounts)
        self._changed()

    def control(self, account: str, control: Control) -> None:
        """Take the account out of service or back. One that is drained serves only what no other can."""
        seat = self._seats.get(account)
        if seat is not None and seat.control != control:
            seat.control = control
            self._changed()

    def report(self) -> list[AccountState]:
        """All accounts as administrators see them, in their order."""
        now = self._clock()
        return [seat.report(now) for seat in self._seats]

    def in_flight(self, account: Account) -> int:
        """Calls on this account right now."""
        return self._seat(account).in_flight

    def rest(self, account: Account) -> float:
        """Seconds until the account may be used again; 0 when it may be now."""
        return self._seat(account).rest(self._clock())

    def exhausted(self, wish: Wish) -> ApiError:
        """What a call is told for which there is no account now: when to come back, to the truth."""
        return self._seats.exhausted(wish, self._clock())

    def _seat(self, account: Account) -> Seat:
        seat = self._seats.get(account.name)
        if seat is None:
            raise account_gone()
        return seat

    def _ended(self, lease: Lease) -> None:
        if lease.fault is not None:
            self.fail(lease, lease.fault)
        if lease.probed is not None:
            # It has found out nothing: its client left, perhaps. Another may.
            lease.probed.is_probed = False
            self._seats.changed()
        if lease.seat.caps is not None and lease.seat.is_freed_by_one_less(lease.entry, self._clock()):
            self._seats.changed()
        if self._waiting.count:
            self._wake(1)

    def _tell(self, seat: Seat, illness: Illness, model: str, now: float) -> None:
        illness.is_granted = self._is_alone
        self._on_change(illness.told(seat.account.name, model, now))

    def _changed(self) -> None:
        self._seats.changed()
        if self._waiting.count:
            self._wake(1)

    def _wake(self, most: int) -> None:
        """Serve as many of each line, and send away those whom nobody will serve."""
        now = self._clock()
        for wish in self._waiting.wishes():
            error = self._seats.verdict(wish, now)
            if error is not None:
                self._waiting.give_up(wish, error)
        self._waiting.hand_out(self.take, most)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting.count:
            now = self._clock()
            soonest = min(self._seats.soonest(wish, now) for wish in self._waiting.wishes())
            delay = min(_LOOK_SECONDS, max(_SHORTEST_LOOK_SECONDS, soonest))
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake, 1)
