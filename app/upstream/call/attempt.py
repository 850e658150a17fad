"""Make one attempt of a call on a given account: an answer whose first bytes have come, or a fault."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import httpx
import structlog

from app.errors import UpstreamRefusedError, forget_frames
from app.runtime.compute_thread import ComputeThread
from app.runtime.deadline import Deadline
from app.settings.gateway import RelaySettings
from app.settings.upstreams import SURFACES, Surface, UpstreamSettings
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.call.destination import TEST_SECONDS, Destination
from app.upstream.call.upstream_call import UpstreamCall
from app.upstream.faults.classification import (
    TRANSPORT_ERRORS,
    Fault,
    error_of_encoding,
    fault_of_disconnect,
    fault_of_exception,
    fault_of_status,
    with_shortest_rest,
)
from app.upstream.faults.in_body import fault_in_body, fault_in_event, may_hold_fault
from app.upstream.headers import DROPPED, answer_headers, client_headers
from app.upstream.http.egress_policy import EgressDeniedError
from app.upstream.http.local_faults import LocalFaultLog, local_fault
from app.upstream.http.proxy_tunnel import ProxyRefusedError
from app.upstream.pool.checkout import Checkout
from app.upstream.transport import Answer, Transport
from app.wire.responses.stream_detection import first_substantive_frame, is_failure
from app.wire.responses.tool_secrets import ToolSecrets
from app.wire.upstream_errors import ParsedError

_MAX_ERROR_BYTES = 64 * 1024
# Upstream announces a response at once, and meets its limits soon after.
_ANNOUNCED_SECONDS = 0.25
_FRAME_ENDS = b"\n\n"
_APIS: tuple[Surface, ...] = ("responses", "chat")
_REFUSED_BODY = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})

_log = structlog.get_logger("antiphon.upstreams")

TransportOf: TypeAlias = Callable[[UpstreamSettings], Transport]
"""The transport to an upstream."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """Report what an upstream answered when asked for its models with one key. `status` is None without an answer.

    `speaks` are the APIs that it has, of responses and chat, where it takes the key; `advice` says what to set where
    its settings name another.
    """

    ok: bool
    status: int | None
    latency_ms: int
    code: str | None
    speaks: tuple[str, ...] = ()
    advice: str | None = None


class Attempts:
    """Make attempts of calls. `present` lists the accounts that exist; the destinations of others are dropped."""

    def __init__(
        self,
        transport_of: TransportOf,
        settings: RelaySettings,
        present: Callable[[], list[Account]],
        offload: ComputeThread,
    ) -> None:
        self._offload = offload
        self._transport_of = transport_of
        self._settings = settings
        self._first_byte = Deadline(settings.first_byte_timeout_seconds)
        self._present = present
        self._destinations: dict[str, Destination] = {}
        self._local_faults = LocalFaultLog()

    async def make(
        self, checkout: Checkout, call: UpstreamCall, *, on_new_connection: bool = False
    ) -> UpstreamAnswer | Fault:
        """Ask the account of this checkout; the checkout goes with the answer, or ends with a fault.

        Raises UpstreamRefusedError where the fault is the client's.
        """
        account = checkout.account
        entry = checkout.entry = call.entry
        answer: Answer | None = None
        kept = False
        try:
            destination = self._destinations.get(account.name)
            if destination is None or destination.account is not account:
                destination = self._destination(account)
            ask = destination.prepare(call, on_new_connection=on_new_connection)
            more = client_headers(call.headers)
            size = call.large_bytes
            sent = await self._offload.run(size, call.render, account) if size else call.render(account)
            entry.attempts += 1
            entry.account = account.name
            # One deadline for the head and the first bytes of the body, which may come one at a time.
            with self._first_byte.block():
                answer = await ask(sent, more, call.project_id, call.reserve)
                first = b""
                if answer.is_success:
                    first = answer.body.take() or await answer.body.read()
            if not first:
                return await self._fault(account, answer, call.secrets)
            opened = _opened(checkout, entry, answer, first)
            if opened.is_stream or may_hold_fault(first):
                fault = await self._reported_fault(call, opened, answer)
                if fault is not None:
                    return fault
        except TRANSPORT_ERRORS as exception:
            fault = self._fault_of_exception(account, exception)
            forget_frames(exception)
            return fault
        else:
            kept = True
            return opened
        finally:
            if not kept:
                checkout.end()
                if answer is not None:
                    await answer.body.aclose()

    async def test(self, account: Account) -> TestResult:
        """Ask the account's upstream for its models, and which API it has, whatever the account's health."""
        started = time.monotonic()
        status: int | None = None
        code: str | None = None
        speaks: tuple[str, ...] = ()
        try:
            ask = self._destination(account).prepare_test("GET", "/models")
            with Deadline(TEST_SECONDS).block():
                answer = await ask(b"", [])
                status = answer.status
                try:
                    if not answer.is_success:
                        code = (await self._fault(account, answer)).reason
                finally:
                    await answer.body.aclose()
                if code is None:
                    speaks = await self._spoken(account)
        except TRANSPORT_ERRORS as exception:
            code = self._fault_of_exception(account, exception).reason
        except UpstreamRefusedError as refusal:
            code = f"HTTP {refusal.status}"
        latency_ms = round((time.monotonic() - started) * 1000)
        return TestResult(code is None, status, latency_ms, code, speaks, _advice(account.upstream, speaks))

    async def _spoken(self, account: Account) -> tuple[str, ...]:
        """Return the APIs that upstream has: it refuses an empty body, where it would not know another path."""
        # As it is, and not translated.
        upstream = account.upstream.model_copy(update={"api": "responses"})
        transport = self._transport_of(upstream if account.upstream.is_translated else account.upstream)
        destination = Destination(account, transport, self._settings)
        spoken: list[str] = []
        for surface in _APIS:
            answer = await destination.prepare_test("POST", SURFACES[surface])(b"{}", [])
            await answer.body.aclose()
            if answer.is_success or answer.status in _REFUSED_BODY:
                spoken.append(surface)
        return tuple(spoken)

    async def _fault(self, account: Account, answer: Answer, secrets: ToolSecrets | None = None) -> Fault:
        if answer.is_success:
            return fault_of_disconnect()
        body = bytearray()
        # The status counts even when the body does not arrive.
        with suppress(*TRANSPORT_ERRORS), self._first_byte.block():
            while len(body) < _MAX_ERROR_BYTES and (chunk := await answer.body.read()):
                body += chunk
        text = account.redacted(bytes(body[:_MAX_ERROR_BYTES]))
        if secrets is not None:
            text = secrets.redacted(text)
        return fault_of_status(
            answer.status, httpx.Headers(account.redacted_headers(answer.headers)), text, now=time.time()
        )

    async def _reported_fault(self, call: UpstreamCall, opened: UpstreamAnswer, answer: Answer) -> Fault | None:
        """Return the fault that the beginning of an answer reports, if any. Raises as `fault_of_status` does.

        A stream that only announces a response is read a little longer: a limit is met in that time, or later.
        """
        if call.path:
            # A stored response that is read may have failed long ago.
            return None
        frame: bytes | None = None
        if opened.is_stream:
            while (frame := first_substantive_frame(opened.first)) is None and len(opened.first) < _MAX_ERROR_BYTES:
                if not await opened.read_soon(_ANNOUNCED_SECONDS):
                    break
            if frame is None or not is_failure(frame):
                return None
        with suppress(TimeoutError), self._first_byte.block():
            while len(opened.first) < _MAX_ERROR_BYTES and not (frame and frame + _FRAME_ENDS in opened.first):
                if not await opened.read_ahead():
                    break
                frame = frame and first_substantive_frame(opened.first)
        parsed = fault_in_body(opened.first) if frame is None else fault_in_event(frame)
        return (
            None
            if parsed is None
            else _fault_after_acceptance(opened.account, answer, parsed, is_stream=opened.is_stream)
        )

    def _fault_of_exception(self, account: Account, exception: BaseException) -> Fault:
        if isinstance(exception, EgressDeniedError):
            _log.warning(
                "an upstream is not called", upstream=account.upstream.name, reason=f"its base_url {exception}"
            )
        elif isinstance(exception, ProxyRefusedError):
            _log.warning("a proxy refused the way", upstream=account.upstream.name, reason=str(exception))
        elif (local := local_fault(exception)) is not None:
            self._local_faults.write(local)
        return fault_of_exception(exception)

    def _destination(self, account: Account) -> Destination:
        """Make the account's destination, with its present settings, and cache it for its calls."""
        present = {other.name for other in self._present()}
        self._destinations = {name: known for name, known in self._destinations.items() if name in present}
        transport = self._transport_of(account.upstream)
        destination = self._destinations[account.name] = Destination(account, transport, self._settings)
        return destination


def _opened(checkout: Checkout, entry: UsageEntry, answer: Answer, first: bytes) -> UpstreamAnswer:
    """Make the answer that begins with these bytes. Raises UpstreamError where its body is encoded."""
    account = checkout.account
    headers, is_encoded = answer_headers(answer.headers, account.secret)
    if is_encoded:
        raise error_of_encoding()
    if answer.dropped:
        headers[DROPPED] = answer.dropped
    entry.first_byte_ms = round((time.monotonic() - entry.started) * 1000)
    return UpstreamAnswer(account, answer.status, headers, first=first, body=answer.body, checkout=checkout)


def _fault_after_acceptance(account: Account, answer: Answer, parsed: ParsedError, *, is_stream: bool) -> Fault:
    """Return the fault of a call that upstream accepted and then failed. Raises as `fault_of_status` does."""
    status = parsed.status or HTTPStatus.BAD_GATEWAY
    headers = httpx.Headers(account.redacted_headers(answer.headers))
    try:
        fault = fault_of_status(status, headers, account.redacted(parsed.body(status)), now=time.time())
    except UpstreamRefusedError as refusal:
        refusal.was_taken = True
        raise
    fault.error.was_taken = True
    return with_shortest_rest(fault) if is_stream else fault


def _advice(upstream: UpstreamSettings, speaks: Sequence[str]) -> str | None:
    """Return what to set where upstream does not have the API that its settings name."""
    wanted: Surface = "chat" if upstream.is_translated else "responses"
    if not speaks or wanted in speaks:
        return None
    return f'It has no {SURFACES[wanted]}: set `api = "{speaks[0]}"` for {upstream.name}.'
