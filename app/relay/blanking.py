"""Where upstream may quote its key: in what it says of a failure. What a model says is passed on as it is."""

from app.upstream.account import Account
from app.wire import events

_FAILED = b'"failed"'
_ERROR = b'"error"'


def is_suspect(frame: bytes, kind: bytes | None) -> bool:
    """Whether this frame, whose `events.kind` that is, may say what went wrong; some servers name no type for that."""
    return frame.find(_ERROR) >= 0 if kind is None else kind in events.FAULTS


def blanked_answer(account: Account, body: bytes) -> bytes:
    """A whole answer of this account's, without its key if something in it has failed."""
    return account.blanked(body) if _FAILED in body else body
