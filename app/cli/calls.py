"""Run `antiphon calls`: list the usage entry of each call."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, Columns, Limit, member, moment, print_page, query
from app.cli.usage import OfKey, OfProject, Since, Until, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.boot.installation import Installation
    from app.state.usage import RecordedEntry


def _cost(row: "Mapping[str, Any]") -> str | None:
    """Render the cost, with `~` before an estimate; "no price" is not the same as free."""
    if row["cost_usd"] is None:
        return None if row["input_tokens"] is None else "no price"
    return f"{'~' if row['estimated'] else ''}{row['cost_usd']}"


_COLUMNS: Columns = {
    "at (UTC)": lambda row: moment(row["at"]),
    "key": member("api_key_id"),
    "model": member("model"),
    "account": member("account"),
    **{name: member(name) for name in ("status", "error_code", "input_tokens", "output_tokens")},
    "cost_usd": _cost,
    "ms": member("latency_ms"),
}


def calls(
    *,
    since: Since = "30d",
    until: Until = "0h",
    project: OfProject = None,
    key: OfKey = None,
    after: Annotated[int | None, typer.Option(min=0, max=2**40, help="Show what follows on this id.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the calls themselves, the latest first."""
    from app.administration.views import resources

    times = span(since, until)

    async def run(installation: "Installation") -> "Sequence[RecordedEntry]":
        owner = (await installation.project(project)).id if project else None
        return await installation.usage.entries(project_id=owner, api_key_id=key, after=after, limit=limit + 1, **times)

    print_page([resources.usage_entry(each) for each in query(run)], limit, _COLUMNS, as_json=as_json)
