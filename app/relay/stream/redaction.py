"""Redact the upstream API key in error events and failed responses. What a model says is passed on unchanged."""

from app.upstream.account import Account
from app.wire.responses import stream_events

_FAILED = b'"failed"'
_ERROR = b'"error"'


def may_quote_key(frame: bytes, kind: bytes | None) -> bool:
    """Tell whether this frame, of this `stream_events.kind`, may be an error; some servers name no type for it."""
    return frame.find(_ERROR) >= 0 if kind is None else kind in stream_events.FAULTS


def redacted_answer(account: Account, body: bytes) -> bytes:
    """Redact this account's key in a whole answer, if something in it has failed."""
    return account.redacted(body) if body.find(_FAILED) >= 0 else body
