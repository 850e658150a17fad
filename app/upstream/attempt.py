"""One try of a call on one account: an answer whose first bytes are here, or a fault. Must not choose the account."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias, get_args

import httpx
import structlog

from app.deadline import Deadline
from app.errors import UpstreamRefusedError, forget_frames
from app.offload import Offload
from app.settings import RelaySettings
from app.settings_upstream import Endpoint, UpstreamSettings
from app.upstream.account import Account
from app.upstream.answer import UpstreamAnswer
from app.upstream.call import UpstreamCall
from app.upstream.faults import TRANSPORT_ERRORS, Fault, broken, disconnected, encoded, refused, resting_shortly
from app.upstream.headers import answer_headers, client_headers, request_headers
from app.upstream.lease import Lease
from app.upstream.local_faults import LocalFaultLog, local_fault
from app.upstream.reach import OutOfReachError
from app.upstream.told_fault import may_tell_fault, told_in_body, told_in_event
from app.upstream.transport import Answer, Ask, Transport, UpstreamRequest
from app.upstream.tunnel import ProxyRefusedError
from app.wire.answer_form import opening, tells_failure
from app.wire.error_words import ErrorWords
from app.wire.tools import ToolSecrets

_MAX_ERROR_BYTES = 64 * 1024
_TEST_SECONDS = 10.0
# Upstream announces a response at once, and meets its limits soon after.
_ANNOUNCED_SECONDS = 0.25
_FRAME_ENDS = b"\n\n"

_log = structlog.get_logger("antiphon.upstreams")

TransportOf: TypeAlias = Callable[[UpstreamSettings], Transport]
"""The transport to an upstream."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What an upstream said when it was asked for its models with one key. `status` is None when it did not answer."""

    ok: bool
    status: int | None
    latency_ms: int
    code: str | None


class _Destination:
    """Where an account's calls go, and what they say there before their bodies, made once for all of a kind."""

    def __init__(self, account: Account, transport: Transport, settings: RelaySettings) -> None:
        self.account = account
        self._transport = transport
        self._urls = _urls(account.upstream)
        self._connect_seconds = settings.connect_timeout_seconds
        self._silence_seconds = settings.idle_timeout_seconds
        self._known: dict[tuple[str, Endpoint | None, bool, bool], Ask] = {}

    def prepare(self, call: UpstreamCall, *, on_new_connection: bool = False) -> Ask:
        """What asks this call here. Raises as Transport does."""
        if call.path or on_new_connection:
            return self._prepare(call, on_new_connection=on_new_connection)
        kind = (call.method, call.endpoint, call.stream, call.is_beta)
        return self._known.get(kind) or self._known.setdefault(kind, self._prepare(call, on_new_connection=False))

    def prepare_test(self) -> Ask:
        """What asks for the models."""
        url = httpx.URL(f"{self.account.upstream.base_url}/models")
        headers = request_headers(self.account, stream=False)
        return self._transport.prepare(UpstreamRequest("GET", url, headers, _TEST_SECONDS))

    def _prepare(self, call: UpstreamCall, *, on_new_connection: bool) -> Ask:
        url = self._urls[call.endpoint]
        if call.path:
            url = httpx.URL(f"{url}{call.path}")
        if call.is_beta:
            url = url.copy_with(query=b"beta=true")
        headers = request_headers(self.account, stream=call.stream)
        return self._transport.prepare(
            UpstreamRequest(call.method, url, headers, self._connect_seconds, self._silence_seconds, on_new_connection)
        )


class Attempts:
    """Makes them. `present` names the accounts that there are: what is known of others is forgotten."""

    def __init__(
        self,
        transport_of: TransportOf,
        settings: RelaySettings,
        present: Callable[[], list[Account]],
        offload: Offload,
    ) -> None:
        self._offload = offload
        self._transport_of = transport_of
        self._settings = settings
        self._first_byte = Deadline(settings.first_byte_timeout_seconds)
        self._present = present
        self._destinations: dict[str, _Destination] = {}
        self._local_faults = LocalFaultLog()

    async def make(  # noqa: C901 (each branch is a fate of the one try)
        self, lease: Lease, call: UpstreamCall, *, on_new_connection: bool = False
    ) -> UpstreamAnswer | Fault:
        """Ask the account of this lease, which goes with the answer or ends.

        Raises UpstreamRefusedError where the fault is the client's.
        """
        account = lease.account
        entry = lease.entry = call.entry
        answer: Answer | None = None
        kept = False
        try:
            there = self._destinations.get(account.name)
            if there is None or there.account is not account:
                there = self._destination(account)
            ask = there.prepare(call, on_new_connection=on_new_connection)
            more = client_headers(call.headers)
            size = call.large_bytes
            sent = await self._offload.run(size, call.render, account) if size else call.render(account)
            if entry is not None:
                entry.attempts += 1
                entry.account = account.name
            # One deadline for the head and the first bytes after it: they may come one at a time.
            with self._first_byte.block():
                answer = await ask(sent, more)
                first = b""
                if answer.is_success:
                    first = answer.body.take() or await answer.body.read()
            if not first:
                return await self._fault(account, answer, call.secrets)
            opened = _opened(lease, answer, first)
            if opened.is_stream or may_tell_fault(first):
                told = await self._told_fault(call, opened, answer)
                if told is not None:
                    return told
        except TRANSPORT_ERRORS as exception:
            fault = self._broken(account, exception)
            forget_frames(exception)
            return fault
        else:
            kept = True
            return opened
        finally:
            if not kept:
                lease.end()
                if answer is not None:
                    await answer.body.aclose()

    async def test(self, account: Account) -> TestResult:
        """Ask the account's upstream for its models, whatever is thought of the account."""
        started = time.monotonic()
        status: int | None = None
        code: str | None = None
        try:
            ask = self._destination(account).prepare_test()
            with Deadline(_TEST_SECONDS).block():
                answer = await ask(b"", [])
                status = answer.status
                try:
                    if not answer.is_success:
                        code = (await self._fault(account, answer)).reason
                finally:
                    await answer.body.aclose()
        except TRANSPORT_ERRORS as exception:
            code = self._broken(account, exception).reason
        except UpstreamRefusedError as refusal:
            code = f"HTTP {refusal.status}"
        return TestResult(code is None, status, round((time.monotonic() - started) * 1000), code)

    async def _fault(self, account: Account, answer: Answer, secrets: ToolSecrets | None = None) -> Fault:
        if answer.is_success:
            return disconnected()
        body = bytearray()
        # What the status says counts, even when the body does not arrive.
        with suppress(*TRANSPORT_ERRORS), self._first_byte.block():
            while len(body) < _MAX_ERROR_BYTES and (chunk := await answer.body.read()):
                body += chunk
        said = account.blanked(bytes(body[:_MAX_ERROR_BYTES]))
        if secrets is not None:
            said = secrets.hidden(said)
        return refused(answer.status, httpx.Headers(account.unquoted(answer.headers)), said, now=time.time())

    async def _told_fault(self, call: UpstreamCall, opened: UpstreamAnswer, answer: Answer) -> Fault | None:
        """The fault that the beginning of an answer tells, where it tells one. Raises as `refused` does.

        A stream that only announces a response is heard a little longer: a limit is met in that time, or later.
        """
        if call.path:
            # What is below a response may have failed long ago.
            return None
        frame: bytes | None = None
        if opened.is_stream:
            while (frame := opening(opened.first)) is None and len(opened.first) < _MAX_ERROR_BYTES:
                if not await opened.read_soon(_ANNOUNCED_SECONDS):
                    break
            if frame is None or not tells_failure(frame):
                return None
        with suppress(TimeoutError), self._first_byte.block():
            while len(opened.first) < _MAX_ERROR_BYTES and not (frame and frame + _FRAME_ENDS in opened.first):
                if not await opened.read_ahead():
                    break
                frame = frame and opening(opened.first)
        words = told_in_body(opened.first) if frame is None else told_in_event(frame)
        return None if words is None else _taken(opened.account, answer, words, is_stream=opened.is_stream)

    def _broken(self, account: Account, exception: BaseException) -> Fault:
        if isinstance(exception, OutOfReachError):
            _log.warning(
                "an upstream is not called", upstream=account.upstream.name, reason=f"its base_url {exception}"
            )
        elif isinstance(exception, ProxyRefusedError):
            _log.warning("a proxy refused the way", upstream=account.upstream.name, reason=str(exception))
        elif (local := local_fault(exception)) is not None:
            self._local_faults.tell(local)
        return broken(exception)

    def _destination(self, account: Account) -> _Destination:
        """Where it is now; its calls remember that."""
        present = {other.name for other in self._present()}
        self._destinations = {name: known for name, known in self._destinations.items() if name in present}
        transport = self._transport_of(account.upstream)
        there = self._destinations[account.name] = _Destination(account, transport, self._settings)
        return there


def _opened(lease: Lease, answer: Answer, first: bytes) -> UpstreamAnswer:
    """The answer whose first bytes these are. Raises UpstreamError where it is encoded."""
    account, entry = lease.account, lease.entry
    told, is_encoded = answer_headers(answer.headers, account.secret)
    if is_encoded:
        raise encoded()
    if entry is not None:
        entry.first_byte_ms = round((time.monotonic() - entry.started) * 1000)
    return UpstreamAnswer(account, answer.status, told, first=first, body=answer.body, lease=lease)


def _taken(account: Account, answer: Answer, words: ErrorWords, *, is_stream: bool) -> Fault:
    """The fault of a call that upstream took, and then failed with these words. Raises as `refused` does."""
    status = words.status or HTTPStatus.BAD_GATEWAY
    headers = httpx.Headers(account.unquoted(answer.headers))
    try:
        fault = refused(status, headers, account.blanked(words.body(status)), now=time.time())
    except UpstreamRefusedError as refusal:
        refusal.was_taken = True
        raise
    fault.error.was_taken = True
    return resting_shortly(fault) if is_stream else fault


def _urls(upstream: UpstreamSettings) -> Mapping[Endpoint | None, httpx.URL]:
    responses = httpx.URL(f"{upstream.base_url}/responses")
    urls: dict[Endpoint | None, httpx.URL] = {None: responses}
    for endpoint in get_args(Endpoint):
        urls[endpoint] = httpx.URL(f"{responses}/{endpoint}") if upstream.offers(endpoint) else responses
    return urls
