"""Prepare the requests to one account's upstream, once for each kind of call: URL, headers, route."""

from collections.abc import Mapping
from typing import get_args

import httpx

from app.settings.gateway import RelaySettings
from app.settings.upstreams import SURFACES, Endpoint, Surface, UpstreamSettings
from app.upstream.account import Account
from app.upstream.call.upstream_call import UpstreamCall
from app.upstream.headers import request_headers
from app.upstream.transport import Ask, Transport, UpstreamRequest

TEST_SECONDS = 10.0
"""How long a test of an account may take."""


class Destination:
    """Prepare the requests of one account, once for each kind of call: URL, headers, route."""

    def __init__(self, account: Account, transport: Transport, settings: RelaySettings) -> None:
        self.account = account
        self._transport = transport
        self._urls = _urls(account.upstream)
        self._connect_seconds = settings.connect_timeout_seconds
        self._silence_seconds = settings.idle_timeout_seconds
        self._known: dict[tuple[str, Surface, Endpoint | None, bool, bool], Ask] = {}

    def prepare(self, call: UpstreamCall, *, on_new_connection: bool = False) -> Ask:
        """Return what sends this call to the account. Raises as Transport does."""
        if call.path or on_new_connection:
            return self._prepare(call, on_new_connection=on_new_connection)
        kind = (call.method, call.surface, call.endpoint, call.stream, call.is_beta)
        return self._known.get(kind) or self._known.setdefault(kind, self._prepare(call, on_new_connection=False))

    def prepare_test(self, method: str, path: str) -> Ask:
        """Return what asks the account's upstream something that costs nothing, below its base URL."""
        url = httpx.URL(f"{self.account.upstream.base_url}{path}")
        headers = request_headers(self.account, stream=False)
        return self._transport.prepare(UpstreamRequest(method, url, headers, TEST_SECONDS))

    def _prepare(self, call: UpstreamCall, *, on_new_connection: bool) -> Ask:
        url = self._urls[call.surface, call.endpoint]
        if call.path:
            url = httpx.URL(f"{url}{call.path}")
        if call.is_beta:
            url = url.copy_with(query=b"beta=true")
        headers = request_headers(self.account, stream=call.stream)
        return self._transport.prepare(
            UpstreamRequest(call.method, url, headers, self._connect_seconds, self._silence_seconds, on_new_connection)
        )


def _urls(upstream: UpstreamSettings) -> Mapping[tuple[Surface, Endpoint | None], httpx.URL]:
    urls: dict[tuple[Surface, Endpoint | None], httpx.URL] = {
        (surface, None): httpx.URL(f"{upstream.base_url}{path}") for surface, path in SURFACES.items()
    }
    responses = urls["responses", None]
    for endpoint in get_args(Endpoint):
        offered = httpx.URL(f"{responses}/{endpoint}") if upstream.offers(endpoint) else responses
        urls["responses", endpoint] = offered
    return urls
