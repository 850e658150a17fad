"""Tell by its first bytes whether an answer is an event stream or a whole body: content types are missing or wrong."""

from app.wire.sse import BOM

EVENT_STREAM, JSON = b"text/event-stream", b"application/json"

_FIELDS = (b"event:", b"data:", b":", b"id:", b"retry:")
_WHOLE = (b"{", b"[")
# How an event begins, as servers usually spell it.
_BEGINS = (b"event: ", b"event:", b'data: {"type":"', b'data: {"type": "')
# The frames that upstream sends before it has generated anything.
_ANNOUNCEMENTS = (
    b":",
    *(begin + kind for kind in (b"response.created", b"response.queued", b"response.in_progress") for begin in _BEGINS),
)
_FAILURES = (
    *(b'data: {"error"', b'data:{"error"', b'data: {"object":"error"', b'data: {"object": "error"'),
    *(begin + kind for kind in (b"error", b"response.failed") for begin in _BEGINS),
)


def is_event_stream(first: bytes, label: bytes) -> bool:
    """Tell whether an answer that begins with these bytes, with this content type, is an event stream.

    No event begins as JSON does, and no JSON as an event does: the content type decides where the bytes say neither.
    """
    if first.startswith(_WHOLE):
        return False
    begun = first.removeprefix(BOM).lstrip()
    if begun.startswith(_WHOLE):
        return False
    if begun.startswith(_FIELDS):
        return True
    is_labelled = label[: len(EVENT_STREAM)].lower() == EVENT_STREAM
    # The first byte may come alone.
    return is_labelled or (begun != b"" and any(field.startswith(begun) for field in _FIELDS))


def first_substantive_frame(chunk: bytes) -> bytes | None:
    """Return the first frame in these bytes that does more than announce a response; None while there is none."""
    if chunk.startswith(_ANNOUNCEMENTS) and chunk.find(b"\n\n") == len(chunk) - 2:
        return None
    return next((frame for frame in chunk.split(b"\n\n") if frame and not frame.startswith(_ANNOUNCEMENTS)), None)


def is_failure(frame: bytes) -> bool:
    """Tell whether this frame, perhaps cut, is an event that reports a failure."""
    return frame.startswith(_FAILURES)
