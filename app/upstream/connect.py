"""One call to upstream: through the pool until an account answers. Must not know what a response or an event is."""

import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from app.errors import ApiError, UpstreamError, UpstreamRefusedError
from app.observability.logging import note
from app.offload import Offload
from app.settings import RelaySettings
from app.upstream.account import Account
from app.upstream.answer import UpstreamAnswer
from app.upstream.attempt import Attempts, TestResult, TransportOf
from app.upstream.budget import RetryBudget
from app.upstream.call import UpstreamCall
from app.upstream.choice import Wish
from app.upstream.exhausted import PoolExhaustedError
from app.upstream.failover import Failover
from app.upstream.faults import Fault, last_word
from app.upstream.lease import Lease
from app.upstream.pool import Pool
from app.upstream.refusals import may_be_about_reasoning


class UpstreamClient:
    """Opens calls. `possible_duplicates` counts those sent again though upstream may have done the work.

    Invariant: a call is sent again only while no byte of an answer's body is here, but of one that tells a fault.
    """

    def __init__(
        self,
        pool: Pool,
        transport_of: TransportOf,
        settings: RelaySettings,
        offload: Offload,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._attempts = Attempts(transport_of, settings, pool.accounts, offload)
        self._clock = clock
        self._budget = RetryBudget()
        self.possible_duplicates = 0

    def first(self, call: UpstreamCall) -> Account:
        """The account that the call would be tried on first now. Raises what the pool raises."""
        return self._pool.first(call)

    def is_resting(self, model: str) -> bool:
        """Whether every account for this model is limited or busy now."""
        try:
            self._pool.first(Wish(model=model))
        except ApiError as error:
            return isinstance(error, PoolExhaustedError)
        return False

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        """The first account's answer that is one; its first chunk is here. Cancelled, it leaves nothing open.

        Raises what the pool raises, UpstreamRefusedError (the client's fault) or UpstreamError (no account answered).
        """
        self._budget.called(self._clock())
        lease = self._pool.enter(call)
        if lease is None:
            if call.is_background:
                raise self._pool.exhausted(call)
            lease = await self._pool.wait(call, self._pool.wait_seconds)
        wanted = lease.wanted
        self._recall_refusal(call, lease.account)
        outcome: UpstreamAnswer | Fault
        try:
            outcome = await self._attempts.make(lease, call)
        except UpstreamRefusedError as refusal:
            outcome = await self._ask_without_reasoning(call, lease.account, refusal)
        if isinstance(outcome, Fault):
            outcome = await self._fail_over(call, lease, outcome)
        else:
            self._pool.serve(lease, outcome.told)
        if wanted is not None and call.entry is not None:
            call.entry.affinity = "kept" if outcome.account.name == wanted else "moved"
        return outcome

    async def ask(self, account_name: str, call: UpstreamCall) -> UpstreamAnswer:
        """The answer of this very account, whatever it serves and however it is. Raises as `open` does."""
        outcome = await self._attempts.make(self._pool.lease(self._account(account_name)), call)
        if isinstance(outcome, Fault):
            raise last_word(outcome, outcome.error)
        return outcome

    async def test(self, account_name: str) -> TestResult:
        """What this account's upstream says to its key now. Raises UpstreamError for an account that is gone."""
        return await self._attempts.test(self._account(account_name))

    def _account(self, name: str) -> Account:
        account = self._pool.account(name)
        if account is None:
            raise UpstreamError("The upstream account that holds this response is no longer configured.")
        return account

    async def _fail_over(self, call: UpstreamCall, lease: Lease, fault: Fault) -> UpstreamAnswer:
        walk = Failover(is_background=call.is_background)
        until = self._clock() + self._pool.wait_seconds
        while True:
            self._pool.fail(lease, fault)
            lease = await self._next(call, walk, lease, fault, until)
            self._recall_refusal(call, lease.account)
            outcome: UpstreamAnswer | Fault
            try:
                outcome = await self._attempts.make(lease, call, on_new_connection=walk.again is not None)
            except UpstreamRefusedError as refusal:
                outcome = await self._ask_without_reasoning(call, lease.account, refusal)
            if isinstance(outcome, UpstreamAnswer):
                self._pool.serve(lease, outcome.told)
                for account, reason in walk.lacking:
                    self._pool.confirm_lack(account, call.model, reason)
                return outcome
            fault = outcome

    def _recall_refusal(self, call: UpstreamCall, account: Account) -> None:
        """Have the call not ask for encrypted reasoning where it is known to be refused."""
        if call.without_reasoning is not None and self._pool.refusals.has(account.upstream.name, call.model):
            call.without_reasoning.add(account.upstream.name)

    async def _ask_without_reasoning(
        self, call: UpstreamCall, account: Account, refusal: UpstreamRefusedError
    ) -> UpstreamAnswer | Fault:
        """Ask this account once more, for nothing that the client did not ask for; remember it if that was the fault.

        What was refused was not generated: it costs neither the client nor the account's health anything. Raises the
        refusal where it can be of nothing that the gateway added.
        """
        upstream, forgone = account.upstream, call.without_reasoning
        if (
            forgone is None
            or upstream.state != "gateway"
            or upstream.name in forgone
            or not may_be_about_reasoning(refusal)
        ):
            raise refusal
        forgone.add(upstream.name)
        outcome = await self._attempts.make(self._pool.lease(account), call)
        if isinstance(outcome, UpstreamAnswer):
            self._pool.refusals.add(upstream.name, call.model)
        return outcome

    async def _next(self, call: UpstreamCall, walk: Failover, lease: Lease, fault: Fault, until: float) -> Lease:
        """The lease for one more try. Raises the call's last word where there is none."""
        following: Lease | None = None
        if walk.allows(fault, lease.account, self._pool.accounts):
            # What was to be asked once more may be configured no longer.
            again = walk.again is not None and self._pool.account(walk.again.name)
            following = self._pool.lease(again) if again else self._pool.take(call, walk.tried)
            if following is None and walk.wait():
                # Where waiting is of no use, this fault says more than the pool.
                with suppress(ApiError):
                    following = await self._pool.wait(call, until - self._clock())
            if following is not None and walk.is_paid:
                # An account that nothing speaks against is no part of an outage.
                is_granted = self._budget.spend(self._clock()) or following.seat.health.is_sound
                if not is_granted:
                    following.end()
                    following = None
        if following is None:
            # Who is told of a limit or a fault of ours comes again: not after a try that may have been generated.
            is_passing = fault.is_local or fault.error.status == HTTPStatus.TOO_MANY_REQUESTS
            word = last_word((is_passing and walk.costly) or fault, self._pool.exhausted(call))
            word.is_paid = walk.costly is not None
            raise word
        if fault.blame == "server":
            self.possible_duplicates += 1
            note(possible_duplicate=True)
        return following
