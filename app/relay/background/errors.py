"""Say what ends a run in the background before upstream does, and what an error means for it: a pause or a failure."""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from app.errors import ApiError, OverloadedError, UpstreamError, UpstreamRefusedError
from app.state.runs import Run
from app.wire.upstream_errors import ParsedError, parse_json_error, response_error

PAUSE_SECONDS = 1
"""The pause of a run that waits for something whose time is unknown."""

# The longest pause: the wait may be over sooner than upstream said.
_LONGEST_PAUSE_SECONDS = 30
# The longest pause after a try that upstream refused: each such try puts an account in cooldown, for all calls.
_LONGEST_REFUSED_PAUSE_SECONDS = 300

_TOO_MANY_REQUESTS = 429
_LOCKED = "conversation_locked"

LEFT: Mapping[str, str] = MappingProxyType(
    {
        "code": "server_error",
        "message": "The gateway was stopped before the response was finished. (gateway_shutdown)",
    }
)
ORPHANED: Mapping[str, str] = MappingProxyType(
    {
        "code": "server_error",
        "message": (
            "The process that generated this response ended before the response was finished. (run_interrupted)"
        ),
    }
)


class StopReason(enum.Enum):
    """Name the reason why a run has to stop."""

    CANCELLED = enum.auto()
    SHUTDOWN = enum.auto()
    LOST = enum.auto()


def final_status_of(run: Run) -> tuple[str, Mapping[str, str] | None]:
    """Return how a run ends that was claimed only to be ended: as cancelled, or as orphaned by its owner."""
    return ("cancelled", None) if run.cancel_requested else ("failed", ORPHANED)


def is_transient(error: ApiError, *, is_started: bool) -> bool:
    """Tell whether the run may wait for the end of this error: upstream has not taken it, and takes it once."""
    if isinstance(error, OverloadedError):
        # A run that waits for bytes of the budget waits as a row, which holds none.
        return not is_started
    if error.status == _TOO_MANY_REQUESTS:
        return not error.is_final and not (isinstance(error, UpstreamError) and error.was_taken)
    return error.code == _LOCKED


def pause_after(error: ApiError, waited: int) -> int:
    """Return the whole seconds until this error may be over, for a run that was queued so many seconds ago.

    A run that upstream itself refuses again and again is tried less and less often.
    """
    asked = error.headers.get("retry-after", "")
    pause = min(int(asked), _LONGEST_PAUSE_SECONDS) if asked.isdecimal() else PAUSE_SECONDS
    if isinstance(error, UpstreamRefusedError):
        return max(pause, min(waited // 2, _LONGEST_REFUSED_PAUSE_SECONDS))
    return pause


def failure_of(error: ApiError) -> Mapping[str, str]:
    """Make the error object of a response that ends by this error, with its code."""
    said = parse_json_error(error.body()) or ParsedError(error.message, error.code)
    return response_error(said)
