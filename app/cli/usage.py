"""Run `antiphon usage`: sum up the usage of calls."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, Columns, member, moment, print_json, print_table, query
from app.cli.options import moment_before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.boot.installation import Installation
    from app.state.usage import Grouping, UsageSum

Since = Annotated[str, typer.Option(help="2026-11-01, 2026-11-01T12:30 (UTC), 12h, 7d or 4w ago.")]
Until = Annotated[str, typer.Option(help="The same; now when not given.")]
OfProject = Annotated[str | None, typer.Option(help="Only this project's calls, by its name or id.")]
OfKey = Annotated[str | None, typer.Option(help="Only this key's calls, by its id.")]

_GROUPS: "tuple[Grouping, ...]" = ("project", "key", "model", "upstream", "day", "hour")
_GROUP_COLUMNS = {"project": "project_id", "key": "api_key_id", "model": "model", "upstream": "upstream"}
_SUMS = (
    "requests",
    "errors",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
    "estimated_requests",
)


def usage(
    *,
    since: Since = "30d",
    until: Until = "0h",
    by: Annotated[str, typer.Option(help=f"Groups, with commas between them: {', '.join(_GROUPS)}.")] = "key,model",
    project: OfProject = None,
    key: OfKey = None,
    model: Annotated[str | None, typer.Option(help="Only this model's calls, by its name.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only this upstream's calls, by its name.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for a spreadsheet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sum up what calls took, in tokens and money."""
    from app.administration.views import resources
    from app.administration.views.usage_csv import usage_csv

    groups = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in groups if name not in _GROUPS]:
        raise typer.BadParameter(f"There is no group '{unknown[0]}'. There are {', '.join(_GROUPS)}.")
    group_by = [name for name in _GROUPS if name in groups]
    times = span(since, until)

    async def run(installation: "Installation") -> "Sequence[UsageSum]":
        owner = (await installation.project(project)).id if project else None
        return await installation.usage.summary(
            group_by=group_by, project_id=owner, api_key_id=key, model=model, upstream=upstream, **times
        )

    sums = [resources.usage_sum(each) for each in query(run)]
    if as_json:
        print_json(resources.page(sums))
    elif as_csv:
        print(usage_csv(sums), end="")
    else:
        columns: Columns = {}
        if {"day", "hour"} & {*groups}:
            columns = {"begins": lambda row: moment(row["begins"])}
        columns = {**columns, **{name: member(_GROUP_COLUMNS[name]) for name in groups if name in _GROUP_COLUMNS}}
        print_table(sums, {**columns, **{name: member(name) for name in _SUMS}})


def span(since: str, until: str) -> dict[str, Any]:
    """Parse the options `since` and `until` for the store, so that the second of `until` is included."""
    now = int(time.time())
    return {"since": moment_before(since, now), "until": moment_before(until, now) + 1}
