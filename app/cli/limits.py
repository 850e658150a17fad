"""Limits and budgets as options of the command line."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.state.policy import Limits

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
    """These limits with what the options say; an option that is not given changes nothing."""
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
    from app.state.policy import Budget

    by_period: dict[Any, dict[str, Any]] = {}
    for text in texts:
        given = _BUDGET.fullmatch(text)
        if given is None:
            raise typer.BadParameter(f"'{text}' is no budget: write day:tokens=1000000 or month:usd=50.")
        budget = by_period.setdefault(given[1], {})
        budget |= {"usd": float(given["usd"])} if given["usd"] else {"tokens": int(given["tokens"])}
    return tuple(Budget(period, **members) for period, members in by_period.items())
