"""Render sums of usage as CSV (RFC 4180), in stable columns, with formulas neutralised."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from app.administration.views.resources import USAGE_COLUMNS

# A spreadsheet takes a cell that begins with one of these for a formula, and clients choose model names.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def usage_csv(sums: Iterable[Mapping[str, Any]]) -> str:
    """Render a header and a line for each sum; an empty cell is null."""
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
