"""Parse the options that several commands share: limits, budgets, and times as people write them."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.state.policies import Limits

Models = Annotated[
    list[str] | None, typer.Option("--model", help="A glob of the models allowed; may be repeated. Unset: all.")
]
Requests = Annotated[int | None, typer.Option("--rpm", min=0, help="Requests per minute; 0 for no limit.")]
Tokens = Annotated[int | None, typer.Option("--tpm", min=0, help="Tokens per minute; 0 for no limit.")]
Streams = Annotated[int | None, typer.Option("--streams", min=0, help="Streams at once; 0 for no limit.")]
OutputTokens = Annotated[
    int | None, typer.Option("--max-output-tokens", min=0, help="Output tokens of one response; 0 for no limit.")
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="day, week or month, and what may be spent in it: day:tokens=1000000 or month:usd=50; may be repeated. "
        "`none` for no budget.",
    ),
]

_BUDGET = re.compile(r"(day|week|month):(?:tokens=(?P<tokens>\d{1,18})|usd=(?P<usd>\d{1,9}(?:\.\d{1,9})?))")


def limited(
    limits: "Limits",
    *,
    rpm: int | None,
    tpm: int | None,
    streams: int | None,
    max_output_tokens: int | None,
    budgets: list[str] | None,
) -> "Limits":
    """Apply the given options to limits; an option that is not given changes nothing."""
    import msgspec

    given = {
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "concurrent_streams": streams,
        "max_output_tokens": max_output_tokens,
    }
    changes: dict[str, Any] = {name: value or None for name, value in given.items() if value is not None}
    if budgets:
        changes["budgets"] = () if budgets == ["none"] else _budgets(budgets)
    return msgspec.structs.replace(limits, **changes)


def _budgets(texts: list[str]) -> Any:
    from app.state.policies import Budget

    by_period: dict[Any, dict[str, Any]] = {}
    for text in texts:
        given = _BUDGET.fullmatch(text)
        if given is None:
            raise typer.BadParameter(f"'{text}' is no budget: write day:tokens=1000000 or month:usd=50.")
        budget = by_period.setdefault(given[1], {})
        budget |= {"usd": float(given["usd"])} if given["usd"] else {"tokens": int(given["tokens"])}
    return tuple(Budget(period, **members) for period, members in by_period.items())


_UNITS = {"h": 3600, "d": 86_400, "w": 604_800}
_FAR = re.compile(r"(\d{1,6})([hdw])")


def moment_before(text: str, now: int) -> int:
    """Parse a date (2026-11-01), a time (2026-11-01T12:30, UTC) or a time ago (12h, 7d, 4w) to unix seconds."""
    return _moment(text, now, -1)


def moment_ahead(text: str, now: int) -> int:
    """Parse a time as `moment_before` does, where 90d is 90 days from now."""
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
