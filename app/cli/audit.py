"""Run `antiphon audit`: list the records of the audit log."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import After, AsJson, Columns, Limit, member, moment, print_page, query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.boot.installation import Installation
    from app.state.audit import AuditRecord

_COLUMNS: Columns = {
    "id": member("id"),
    "at (UTC)": lambda row: moment(row["at"]),
    "actor": member("actor"),
    "address": member("address"),
    "action": member("action"),
    "subject": member("subject"),
}


def audit(
    subject: Annotated[str | None, typer.Option(help="Only what was done to this id or name.")] = None,
    after: After = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what administrators did, the latest first."""
    from app.administration.views import resources

    async def run(installation: "Installation") -> "Sequence[AuditRecord]":
        return await installation.audit.list(after=after, limit=limit + 1, subject=subject)

    print_page([resources.audit_record(record) for record in query(run)], limit, _COLUMNS, as_json=as_json)
