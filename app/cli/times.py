"""Moments as people write them on a command line: a date, a time, or how far from now."""

import re
from datetime import UTC, datetime

import typer

_UNITS = {"h": 3600, "d": 86_400, "w": 604_800}
_FAR = re.compile(r"(\d{1,6})([hdw])")


def moment_before(text: str, now: int) -> int:
    """The unix seconds of a date (2026-11-01), a time (2026-11-01T12:30, in UTC) or so long ago (12h, 7d, 4w)."""
    return _moment(text, now, -1)


def moment_ahead(text: str, now: int) -> int:
    """The same, where 90d are 90 days from now."""
    return _moment(text, now, 1)


def _moment(text: str, now: int, direction: int) -> int:
    if far := _FAR.fullmatch(text):
        return now + direction * int(far[1]) * _UNITS[far[2]]
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time: write 2026-11-01, 2026-11-01T12:30 (UTC), 12h, 7d or 4w."
        ) from None
    return int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp())
