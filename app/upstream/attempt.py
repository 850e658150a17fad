"""One try of a call on one account: an answer whose first bytes are here, or a fault. Must not choose the account."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, get_args

import httpx
import structlog

from app.deadline import Deadline
from app.errors import UpstreamRefusedError
from app.settings import RelaySettings
from app.settings_upstream import Endpoint, UpstreamSettings
from app.upstream.account import Account
from app.upstream.answer import UpstreamAnswer, close
from app.upstream.call import UpstreamCall
from app.upstream.faults import TRANSPORT_ERRORS, Fault, broken, disconnected, encoded, refused
from app.upstream.headers import RequestHeaders, answer_headers, is_encoded
from app.upstream.lease import Lease
from app.upstream.reach import OutOfReachError
from app.upstream.transport import body_of, new_request, timeouts

_MAX_ERROR_BYTES = 64 * 1024
_TEST_SECONDS = 10.0

_log = structlog.get_logger("antiphon.upstreams")

TransportOf: TypeAlias = Callable[[UpstreamSettings], httpx.AsyncBaseTransport]
"""The transport to an upstream."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What an upstream said when it was asked for its models with one key. `status` is None when it did not answer."""

    ok: bool
    status: int | None
    latency_ms: int
    code: str | None


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where an account's calls go, and with which headers: what is the same for each of them."""

    account: Account
    transport: httpx.AsyncBaseTransport
    urls: Mapping[Endpoint | None, httpx.URL]
    models: httpx.URL
    headers: RequestHeaders


class Attempts:
    """Makes them. `present` names the accounts that there are: what is known of others is forgotten."""

    def __init__(
        self, transport_of: TransportOf, settings: RelaySettings, present: Callable[[], list[Account]]
    ) -> None:
        self._transport_of = transport_of
        self._first_byte = Deadline(settings.first_byte_timeout_seconds)
        self._present = present
        self._timeouts = timeouts(
            connect_seconds=settings.connect_timeout_seconds, silence_seconds=settings.idle_timeout_seconds
        )
        self._destinations: dict[str, _Destination] = {}

    async def make(self, lease: Lease, call: UpstreamCall) -> UpstreamAnswer | Fault:
        """Ask the account of this lease, which goes with the answer or ends.

        Raises UpstreamRefusedError where the fault is the client's.
        """
        account = lease.account
        lease.entry = call.entry
        response: httpx.Response | None = None
        kept = False
        try:
            there = self._destinations.get(account.name)
            if there is None or there.account is not account:
                there = self._destination(account)
            url = there.urls[call.endpoint]
            if call.path:
                url = httpx.URL(f"{url}{call.path}")
            headers = there.headers.beside(call.headers, stream=call.stream)
            request = new_request(call.method, url, headers, call.render(account), self._timeouts)
            if call.entry is not None:
                call.entry.attempts += 1
                call.entry.account = account.name
            # One deadline for the head and the first bytes after it: they may come one at a time.
            with self._first_byte.block():
                response = await there.transport.handle_async_request(request)
                chunks = aiter(body_of(response))
                first = await anext(chunks, b"") if response.is_success else b""
            if not first:
                return await self._fault(account, response, chunks)
            theirs = response.headers.raw
            if is_encoded(theirs):
                raise encoded()
            kept = True
            if call.entry is not None:
                call.entry.first_byte_ms = round((time.monotonic() - call.entry.started) * 1000)
            return UpstreamAnswer(
                account,
                response.status_code,
                answer_headers(theirs, account.secret),
                first=first,
                chunks=chunks,
                body=body_of(response),
                lease=lease,
            )
        except TRANSPORT_ERRORS as exception:
            return _broken(account, exception)
        finally:
            if not kept:
                lease.end()
                if response is not None:
                    await close(body_of(response))

    async def test(self, account: Account) -> TestResult:
        """Ask the account's upstream for its models, whatever is thought of the account."""
        started = time.monotonic()
        status: int | None = None
        code: str | None = None
        try:
            there = self._destination(account)
            headers = there.headers.beside({}, stream=False)
            request = new_request("GET", there.models, headers, b"", timeouts(connect_seconds=_TEST_SECONDS))
            with Deadline(_TEST_SECONDS).block():
                response = await there.transport.handle_async_request(request)
                status = response.status_code
                try:
                    if not response.is_success:
                        code = (await self._fault(account, response, aiter(body_of(response)))).reason
                finally:
                    await close(body_of(response))
        except TRANSPORT_ERRORS as exception:
            code = _broken(account, exception).reason
        except UpstreamRefusedError as refusal:
            code = f"HTTP {refusal.status}"
        return TestResult(code is None, status, round((time.monotonic() - started) * 1000), code)

    async def _fault(self, account: Account, response: httpx.Response, chunks: AsyncIterator[bytes]) -> Fault:
        if response.is_success:
            return disconnected(unanswered=False)
        body = bytearray()
        # What the status says counts, even when the body does not arrive.
        with suppress(*TRANSPORT_ERRORS), self._first_byte.block():
            async for chunk in chunks:
                body += chunk
                if len(body) >= _MAX_ERROR_BYTES:
                    break
        return refused(
            response.status_code,
            httpx.Headers(account.unquoted(response.headers.raw)),
            account.blanked(bytes(body[:_MAX_ERROR_BYTES])),
            now=time.time(),
        )

    def _destination(self, account: Account) -> _Destination:
        """Where it is now; its calls remember that."""
        present = {other.name for other in self._present()}
        self._destinations = {name: known for name, known in self._destinations.items() if name in present}
        upstream = account.upstream
        there = self._destinations[account.name] = _Destination(
            account,
            self._transport_of(upstream),
            _urls(upstream),
            httpx.URL(f"{upstream.base_url}/models"),
            RequestHeaders(account),
        )
        return there


def _broken(account: Account, exception: BaseException) -> Fault:
    if isinstance(exception, OutOfReachError):
        _log.warning("an upstream is not called", upstream=account.upstream.name, reason=f"its base_url {exception}")
    return broken(exception)


def _urls(upstream: UpstreamSettings) -> Mapping[Endpoint | None, httpx.URL]:
    responses = httpx.URL(f"{upstream.base_url}/responses")
    urls: dict[Endpoint | None, httpx.URL] = {None: responses}
    for endpoint in get_args(Endpoint):
        urls[endpoint] = httpx.URL(f"{responses}/{endpoint}") if upstream.offers(endpoint) else responses
    return urls
