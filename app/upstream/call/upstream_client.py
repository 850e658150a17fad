"""Open a call to upstream: try the accounts of the pool, with failover and retries, until one answers."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

from app.errors import ApiError, InvalidRequestError, UpstreamError, UpstreamRefusedError
from app.observability.logging import note
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import RelaySettings
from app.upstream.account import Account
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.call.attempt import Attempts, TestResult, TransportOf
from app.upstream.call.failover import Failover
from app.upstream.call.retry_budget import RetryBudget
from app.upstream.call.upstream_call import UpstreamCall
from app.upstream.faults.classification import Fault, error_when_all_failed
from app.upstream.faults.pool_exhausted import PoolExhaustedError
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.encrypted_reasoning import may_be_about_reasoning
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from app.upstream.transport import UnfitRequestError


class UpstreamClient:
    """Open calls over the pool. `possible_duplicates` counts retries after which the work may have been done twice.

    Invariant: a call is sent again only while no byte of an answer's body has come, except of one that reports a fault.
    """

    def __init__(
        self,
        pool: Pool,
        transport_of: TransportOf,
        settings: RelaySettings,
        offload: ComputeThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._attempts = Attempts(transport_of, settings, pool.accounts, offload)
        self._clock = clock
        self._budget = RetryBudget()
        self.possible_duplicates = 0

    def first(self, call: UpstreamCall) -> Account:
        """Return the account on which the call would be tried first now. Raises what the pool raises."""
        return self._pool.first(call)

    def is_resting(self, model: str) -> bool:
        """Tell whether every account for this model is limited or busy now."""
        try:
            self._pool.first(PoolRequest(model=model))
        except ApiError as error:
            return isinstance(error, PoolExhaustedError)
        return False

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        """Return the answer of the first account that answers, with its first chunk. Cancelled, it leaves nothing open.

        Raises what the pool raises, UpstreamRefusedError (the client's fault) or UpstreamError (no account answered).
        """
        self._budget.called(self._clock())
        checkout = self._pool.enter(call)
        if checkout is None:
            if call.is_background:
                raise self._pool.exhausted(call)
            checkout = await self._pool.wait(call, self._pool.wait_seconds)
        wanted = checkout.wanted
        self._recall_refusal(call, checkout.account)
        outcome: UpstreamAnswer | Fault
        try:
            outcome = await self._attempts.make(checkout, call)
        except UpstreamRefusedError as refusal:
            outcome = await self._ask_without_reasoning(call, checkout.account, refusal)
        if isinstance(outcome, Fault):
            outcome = await self._fail_over(call, checkout, outcome)
        else:
            self._pool.serve(checkout, outcome.client_headers)
        if wanted is not None:
            call.entry.affinity = "kept" if outcome.account.name == wanted else "moved"
        return outcome

    async def ask(self, account_name: str, call: UpstreamCall) -> UpstreamAnswer:
        """Ask exactly this account, whatever its models and health. Raises as `open` does."""
        outcome = await self._attempts.make(self._pool.checkout(self._account(account_name)), call)
        if isinstance(outcome, Fault):
            raise error_when_all_failed(outcome, outcome.error)
        return outcome

    async def test(self, account_name: str) -> TestResult:
        """Test this account's key on its upstream now. Raises UpstreamError for an account that is gone."""
        return await self._attempts.test(self._account(account_name))

    def _account(self, name: str) -> Account:
        account = self._pool.account(name)
        if account is None:
            raise UpstreamError("The upstream account that holds this response is no longer configured.")
        return account

    async def _fail_over(self, call: UpstreamCall, checkout: Checkout, fault: Fault) -> UpstreamAnswer:
        walk = Failover(call, is_background=call.is_background)
        until = self._clock() + self._pool.wait_seconds
        while True:
            self._pool.fail(checkout, fault)
            if isinstance(fault.error, UnfitRequestError):
                # Nothing was sent.
                call.entry.attempts -= 1
                call.entry.account = None
                if (own_items := call.own_items) is not None:
                    fault = replace(fault, error=fault.error.as_asked(own_items))
            checkout = await self._next(walk, checkout, fault, until)
            self._recall_refusal(call, checkout.account)
            outcome: UpstreamAnswer | Fault
            try:
                outcome = await self._attempts.make(checkout, call, on_new_connection=walk.again is not None)
            except UpstreamRefusedError as refusal:
                outcome = await self._ask_without_reasoning(call, checkout.account, refusal)
            if isinstance(outcome, UpstreamAnswer):
                self._pool.serve(checkout, outcome.client_headers)
                for account, reason in walk.lacking:
                    self._pool.confirm_model_missing(account, call.model_there, reason)
                return outcome
            fault = outcome

    def _recall_refusal(self, call: UpstreamCall, account: Account) -> None:
        """Ask for no encrypted reasoning where the model is known to refuse that."""
        if call.without_reasoning is not None and self._pool.reasoning_refusals.has(account.upstream.name, call.model):
            call.without_reasoning.add(account.upstream.name)

    async def _ask_without_reasoning(
        self, call: UpstreamCall, account: Account, refusal: UpstreamRefusedError
    ) -> UpstreamAnswer | Fault:
        """Ask this account once more without encrypted reasoning; remember the refusal if that was the fault.

        A refused call was not generated: it costs neither the client nor the account's health. Raises the refusal
        where it cannot be about what the gateway added.
        """
        upstream, forgone = account.upstream, call.without_reasoning
        if (
            forgone is None
            or upstream.state != "gateway"
            or upstream.is_translated
            or upstream.name in forgone
            or not may_be_about_reasoning(refusal)
        ):
            raise refusal
        forgone.add(upstream.name)
        outcome = await self._attempts.make(self._pool.checkout(account), call)
        if isinstance(outcome, UpstreamAnswer):
            self._pool.reasoning_refusals.add(upstream.name, call.model)
        return outcome

    async def _next(self, walk: Failover, checkout: Checkout, fault: Fault, until: float) -> Checkout:
        """Return the checkout for one more try. Raises the call's final error where there is none."""
        following: Checkout | None = None
        if walk.allows(fault, checkout.account, self._pool.accounts):
            # The account that was to be asked again may be configured no longer.
            again = walk.again is not None and self._pool.account(walk.again.name)
            following = self._pool.checkout(again) if again else self._pool.take(walk.request, walk.tried)
            if following is None and walk.wait():
                # Where waiting does not help, this fault tells the client more than the pool's error.
                with suppress(ApiError):
                    following = await self._pool.wait(walk.request, until - self._clock())
            if following is not None and walk.is_paid:
                # A healthy account is no part of an outage.
                is_granted = self._budget.spend(self._clock()) or following.member.health.is_healthy
                if not is_granted:
                    following.end()
                    following = None
        if following is None:
            raise self._final_error(walk, fault)
        if fault.blame == "server":
            self.possible_duplicates += 1
            note(possible_duplicate=True)
        return following

    def _final_error(self, walk: Failover, fault: Fault) -> ApiError:
        """Return the error of a call that is not tried again. Raises UpstreamError for an account that is gone.

        An upstream that cannot be asked this decides nothing while another could be, which may be back soon.
        """
        try:
            pool = self._pool.exhausted(walk.request)
        except InvalidRequestError as unserved:
            if fault.blame != "unfit":
                raise
            pool = unserved
        if fault.blame == "unfit" and not isinstance(pool, InvalidRequestError):
            if walk.last is None:
                return pool
            fault = walk.last
        # Clients retry after a limit or a fault of this machine: not after an attempt that may have generated.
        is_passing = fault.is_local or fault.error.status == HTTPStatus.TOO_MANY_REQUESTS
        error = error_when_all_failed((is_passing and walk.costly) or fault, pool)
        error.is_paid = walk.costly is not None
        return error
