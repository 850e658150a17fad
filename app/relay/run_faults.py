"""Say what ends a run in the background before upstream does, and what an error means for it: a pause or a failure."""

import enum

import orjson

from app.errors import ApiError

PAUSE_SECONDS = 1
"""The pause of a run that waits for something nobody knows the time of."""

# The longest of any: its client may cancel it.
_LONGEST_PAUSE_SECONDS = 30


class Stop(enum.Enum):
    """Why a run that is being performed has to stop."""

    CANCELLED = enum.auto()
    SHUTDOWN = enum.auto()
    LOST = enum.auto()


def pause_after(error: ApiError) -> int:
    """Whole seconds until this may be over."""
    asked = error.headers.get("retry-after", "")
    return min(int(asked), _LONGEST_PAUSE_SECONDS) if asked.isdecimal() else PAUSE_SECONDS


def failure_of(error: ApiError) -> str:
    """What the error says to a client, with its code."""
    told = orjson.loads(error.body())["error"]
    return f"{told['message']} ({told['code']})" if told.get("code") else str(told["message"])
