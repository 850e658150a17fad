"""Run `antiphon secrets`: list the master secrets by their fingerprints."""

from typing import TYPE_CHECKING

import typer

from app.cli.console import AsJson, Columns, member, print_json, print_table, query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.administration.secrets import SecretUse
    from app.boot.installation import Installation

secrets = typer.Typer(help="The master secrets, by their fingerprints.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS: Columns = {
    "fingerprint": member("fingerprint"),
    "known from": member("source"),
    "written under": member("is_written_under"),
    "upstream keys": member("upstream_keys"),
    "needed": member("is_needed"),
}


# Without a callback the only command would become `antiphon secrets` itself.
@secrets.callback()
def _secrets() -> None: ...


@secrets.command("status")
def show_secrets(*, as_json: AsJson = False) -> None:
    """List the master secrets with what is kept under each. One that is not needed can leave the settings."""
    from app.administration.views import resources

    async def run(installation: "Installation") -> "Sequence[SecretUse]":
        return await installation.secret_uses()

    found = [resources.secret(each) for each in query(run)]
    if as_json:
        print_json(resources.page(found))
    else:
        print_table(found, _COLUMNS)
