"""`antiphon secrets`: the master secrets, by their fingerprints."""

from typing import TYPE_CHECKING

import typer

from app.cli.console import AsJson, Columns, look, member, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.administration.secrets import SecretUse
    from app.installation import Installation

secrets = typer.Typer(help="The master secrets, by their fingerprints.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS: Columns = {
    "fingerprint": member("fingerprint"),
    "known from": member("source"),
    "written under": member("is_written_under"),
    "upstream keys": member("upstream_keys"),
    "needed": member("is_needed"),
}


# With one command alone it would be `antiphon secrets`.
@secrets.callback()
def _secrets() -> None: ...


@secrets.command("status")
def show_secrets(*, as_json: AsJson = False) -> None:
    """List the master secrets with what is kept under each. One that is not needed can leave the settings."""
    from app.administration import shown

    async def run(installation: "Installation") -> "Sequence[SecretUse]":
        return await installation.secret_uses()

    found = [shown.secret(each) for each in look(run)]
    if as_json:
        print_json(shown.page(found))
    else:
        print_table(found, _COLUMNS)
