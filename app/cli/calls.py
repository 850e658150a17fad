"""`antiphon calls`: each call by itself, as the ledger has it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, Columns, Limit, look, member, moment, print_page
from app.cli.usage import OfKey, OfProject, Since, Until, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.installation import Installation
    from app.state.ledger import Recorded


def _cost(row: "Mapping[str, Any]") -> str | None:
    """The cost, `~` before one by estimate; what a call took at no known price does not pass for free."""
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
    from app.administration import shown

    times = span(since, until)

    async def run(installation: "Installation") -> "Sequence[Recorded]":
        owner = (await installation.project(project)).id if project else None
        return await installation.usage.entries(project_id=owner, api_key_id=key, after=after, limit=limit + 1, **times)

    print_page([shown.usage_entry(each) for each in look(run)], limit, _COLUMNS, as_json=as_json)
