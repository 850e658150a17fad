"""Read from an answer's headers how long upstream asks to wait."""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST_SECONDS = 31 * 86_400
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait, never negative; None when upstream names none. `now` is unix time.

    A wait of years is a mistake, such as a time of day in place of a span: it must not end an account for good.
    """
    seconds = _stated(headers, now)
    return None if seconds is None or seconds > _LONGEST_SECONDS else seconds


def _stated(headers: Mapping[str, str], now: float) -> float | None:
    """Read the wait from the headers, sensible or not.

    In the SDKs' order: `retry-after-ms`, `retry-after` (seconds or a date), then the reset of the spent limit.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after", "")
    seconds = _number(stated)
    if seconds is None:
        seconds = _until(stated, now)
    return seconds if seconds is not None else _reset(headers)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(date: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the reset of the limits that are spent; when none is marked spent, the earliest reset."""
    spent: list[float] = []
    others: list[float] = []
    for limit in ("requests", "tokens"):
        seconds = _duration(headers.get(f"x-ratelimit-reset-{limit}", ""))
        if seconds is not None:
            (spent if headers.get(f"x-ratelimit-remaining-{limit}") == "0" else others).append(seconds)
    return max(spent) if spent else min(others, default=None)


def _duration(text: str) -> float | None:
    """Parse `6m0s`, `12ms` or plain seconds."""
    if not _DURATION.fullmatch(text):
        return _number(text)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
