"""Record one call that is relayed as it came, and render its body for the account that is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from app.relay.call.exchange import sendable
from app.relay.call.reservation import NOTHING, Grant
from app.relay.metering.metered import PassedOutput
from app.settings.upstreams import ChatProfile, UpstreamSettings
from app.state.records import ApiKey
from app.upstream.account import Account
from app.upstream.call.upstream_call import UpstreamCall
from app.wire.json_body import Json
from app.wire.requests.passthrough_request import PassthroughRequest

# OpenAI keeps a completion in its account, where all who share the account can list it.
_KEPT = ("store", "metadata")


@dataclass(slots=True, kw_only=True)
class PassthroughCall(UpstreamCall):
    """Record a call from admitted to accounted for; it is also the call that upstream gets.

    `profile_of` tells what an upstream takes. `adds_usage`: the body that was rendered last asks for a usage that the
    client did not ask for.
    """

    caller: ApiKey
    request: PassthroughRequest
    profile_of: Callable[[UpstreamSettings], ChatProfile]
    grant: Grant = NOTHING
    answer: PassedOutput | None = None
    adds_usage: bool = field(default=False, init=False)

    @classmethod
    def cache_key_of(cls, fields: Mapping[str, object]) -> str | None:
        """Return what keeps the calls of one prompt cache together: the client's key of it, else its user."""
        given = (fields.get("prompt_cache_key"), fields.get("user"))
        return next((name for name in given if isinstance(name, str) and name), None)

    def render(self, account: Account) -> bytes:
        """Render the body for this account: as the client sent it, with the model's name there and the caller's cap.

        A stream is asked for its usage, which the client pays by.
        """
        request, upstream = self.request, account.upstream
        members = dict(request.members)
        if upstream.state == "gateway":
            for name in _KEPT:
                members.pop(name, None)
        if request.cap is not None:
            name = self.profile_of(upstream).max_tokens_as if request.surface == "chat" else request.output_member
            members[name] = Json(b"%d" % request.cap)
        self.adds_usage = request.stream and not request.includes_usage and self.profile_of(upstream).include_usage
        if self.adds_usage:
            options = {**(request.fields.get("stream_options") or {}), "include_usage": True}
            members["stream_options"] = Json(orjson.dumps(options))
        return sendable(members, account)
