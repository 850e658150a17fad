"""Say what ends a run in the background before upstream does, and what an error means for it: a pause or a failure."""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from app.errors import ApiError, OverloadedError, UpstreamError, UpstreamRefusedError
from app.state.runs import Run
from app.wire.error_words import ErrorWords, read_words, response_error

PAUSE_SECONDS = 1
"""The pause of a run that waits for something nobody knows the time of."""

# The longest while nobody is asked: what is waited for may be over sooner than was said.
_LONGEST_PAUSE_SECONDS = 30
# The longest after a try that upstream refused: each of these has its accounts rest, for all others too.
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


class Stop(enum.Enum):
    """Why a run that is being performed has to stop."""

    CANCELLED = enum.auto()
    SHUTDOWN = enum.auto()
    LOST = enum.auto()


def end_of(run: Run) -> tuple[str, Mapping[str, str] | None]:
    """How a run ends that was taken for that alone: as cancelled, or as left by the process that had begun it."""
    return ("cancelled", None) if run.cancel_requested else ("failed", ORPHANED)


def is_passing(error: ApiError, *, is_started: bool) -> bool:
    """Whether the run may wait for the end of this: upstream has not taken it, as it takes it once."""
    if isinstance(error, OverloadedError):
        # For bytes of the budget it waits as a row, which holds none.
        return not is_started
    if error.status == _TOO_MANY_REQUESTS:
        return not error.is_final and not (isinstance(error, UpstreamError) and error.was_taken)
    return error.code == _LOCKED


def pause_after(error: ApiError, waited: int) -> int:
    """Whole seconds until this may be over, for a run that was ordered so many seconds ago.

    A run that upstream itself refuses again and again comes back more and more rarely.
    """
    asked = error.headers.get("retry-after", "")
    pause = min(int(asked), _LONGEST_PAUSE_SECONDS) if asked.isdecimal() else PAUSE_SECONDS
    if isinstance(error, UpstreamRefusedError):
        return max(pause, min(waited // 2, _LONGEST_REFUSED_PAUSE_SECONDS))
    return pause


def failure_of(error: ApiError) -> Mapping[str, str]:
    """The error of a response that ends by this one: it says the same, with its code."""
    said = read_words(error.body()) or ErrorWords(error.message, error.code)
    return response_error(said)
