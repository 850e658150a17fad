"""One call to upstream: through the pool until an account answers. Must not know what a response or an event is."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import get_args

import httpx

from app.deadline import Deadline
from app.errors import UpstreamError
from app.settings import Endpoint, RelaySettings, UpstreamSettings
from app.state.ledger import Entry
from app.upstream.account import Account
from app.upstream.answer import UpstreamAnswer, close
from app.upstream.faults import TRANSPORT_ERRORS, Fault, broken, disconnected, encoded, last_word, refused
from app.upstream.headers import RequestHeaders, answer_headers, is_encoded
from app.upstream.pool import Pool
from app.upstream.transport import body_of, new_request, timeouts

_MAX_ERROR_BYTES = 64 * 1024


# Not frozen, though nobody changes it: every call makes one, and a frozen one costs thrice as much.
@dataclass(slots=True)
class UpstreamCall:
    """A call for any account that serves the model. `render` makes the body for the account that is tried.

    `prefer` and `only` name accounts; `headers` are the client's, by lower-case name. With an `endpoint` the call goes
    there where the account's upstream offers it, and elsewhere to where responses are made. A `path` (`/resp_1/cancel`)
    names what is below that. The `entry` is told who was asked, and how often.
    """

    model: str
    render: Callable[[Account], bytes] = field(repr=False)
    stream: bool
    prefer: str | None = None
    only: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint: Endpoint | None = None
    method: str = "POST"
    path: str = ""
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where an account's calls go, and with which headers: what is the same for each of them."""

    transport: httpx.AsyncBaseTransport
    urls: Mapping[Endpoint | None, httpx.URL]
    headers: RequestHeaders


class UpstreamClient:
    """Opens calls. `transports` holds a transport for each upstream, by its name.

    Invariant: a call is sent again only while no byte of an answer's body is here.
    """

    def __init__(self, pool: Pool, transports: Mapping[str, httpx.AsyncBaseTransport], settings: RelaySettings) -> None:
        self._pool = pool
        self._settings = settings
        self._timeouts = timeouts(
            connect_seconds=settings.connect_timeout_seconds, silence_seconds=settings.idle_timeout_seconds
        )
        self._destinations = {
            account.name: _Destination(
                transports[account.upstream.name],
                _urls(account.upstream),
                RequestHeaders(account),
            )
            for account in pool.accounts()
        }

    def first(self, call: UpstreamCall) -> Account:
        """The account that the call would be tried on first now. Raises what the pool raises."""
        return self._pool.candidates(call.model, call.prefer, call.only)[0]

    async def open(self, call: UpstreamCall) -> UpstreamAnswer:
        """The first account's answer that is one; its first chunk is here. Cancelled, it leaves nothing open.

        Raises what the pool raises, UpstreamRefusedError (the client's fault) or UpstreamError (no account answered).
        """
        faults: list[Fault] = []
        for account in self._pool.candidates(call.model, call.prefer, call.only):
            if faults and self._pool.rest(account):
                continue
            outcome = await self._try(account, call)
            if isinstance(outcome, Fault) and outcome.unanswered and not any(fault.unanswered for fault in faults):
                faults.append(outcome)
                outcome = await self._try(account, call)
            if isinstance(outcome, UpstreamAnswer):
                self._pool.trust(account)
                return outcome
            faults.append(outcome)
            if outcome.rest:
                self._pool.cool(account, outcome.rest)
            else:
                self._pool.doubt(account)
        raise last_word(faults[-1], self._pool.shortest_rest(call.model, call.only))

    async def ask(self, account_name: str, call: UpstreamCall) -> UpstreamAnswer:
        """The answer of this very account, whatever it serves and however it is. Raises as `open` does."""
        account = next((account for account in self._pool.accounts() if account.name == account_name), None)
        if account is None:
            raise UpstreamError("The upstream account that holds this response is no longer configured.")
        outcome = await self._try(account, call)
        if isinstance(outcome, Fault):
            raise last_word(outcome, self._pool.rest(account))
        return outcome

    async def _try(self, account: Account, call: UpstreamCall) -> UpstreamAnswer | Fault:
        there = self._destinations[account.name]
        if call.entry is not None:
            call.entry.attempts += 1
            call.entry.account = account.name
        ours = there.headers.beside(call.headers, stream=call.stream)
        url = there.urls[call.endpoint]
        if call.path:
            url = httpx.URL(f"{url}{call.path}")
        request = new_request(call.method, url, ours, call.render(account), self._timeouts)
        lease = self._pool.lease(account)
        response: httpx.Response | None = None
        kept = False
        try:
            # One deadline for the head and the first bytes after it: they may come one at a time.
            with Deadline(self._settings.first_byte_timeout_seconds):
                response = await there.transport.handle_async_request(request)
                chunks = aiter(body_of(response))
                first = await anext(chunks, b"") if response.is_success else b""
            if not first:
                return await self._fault(account, response, chunks)
            theirs = response.headers.raw
            if is_encoded(theirs):
                raise encoded()
            kept = True
            return UpstreamAnswer(
                account,
                response.status_code,
                answer_headers(theirs),
                first=first,
                chunks=chunks,
                body=body_of(response),
                lease=lease,
            )
        except TRANSPORT_ERRORS as exception:
            return broken(exception)
        finally:
            if not kept:
                lease.end()
                if response is not None:
                    await close(body_of(response))

    async def _fault(self, account: Account, response: httpx.Response, chunks: AsyncIterator[bytes]) -> Fault:
        if response.is_success:
            return disconnected(unanswered=False)
        body = bytearray()
        # What the status says counts, even when the body does not arrive.
        with suppress(*TRANSPORT_ERRORS), Deadline(self._settings.first_byte_timeout_seconds):
            async for chunk in chunks:
                body += chunk
                if len(body) >= _MAX_ERROR_BYTES:
                    break
        return refused(
            response.status_code,
            response.headers,
            account.blanked(bytes(body[:_MAX_ERROR_BYTES])),
            cool_down_seconds=self._settings.cool_down_seconds,
            now=time.time(),
        )


def _urls(upstream: UpstreamSettings) -> Mapping[Endpoint | None, httpx.URL]:
    responses = httpx.URL(f"{upstream.base_url}/responses")
    urls: dict[Endpoint | None, httpx.URL] = {None: responses}
    for endpoint in get_args(Endpoint):
        urls[endpoint] = httpx.URL(f"{responses}/{endpoint}") if upstream.offers(endpoint) else responses
    return urls
