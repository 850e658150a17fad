"""Sums of usage as CSV (RFC 4180), in columns that stay. Must not know who reads it."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from app.administration.shown import USAGE_COLUMNS

# A spreadsheet takes a cell that begins with one of these for a formula, and a client chooses its model's name.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sheet(sums: Iterable[Mapping[str, Any]]) -> str:
    """The header and a line for each; an empty cell is null."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(USAGE_COLUMNS)
    writer.writerows([_cell(each[name]) for name in USAGE_COLUMNS] for each in sums)
    return text.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
