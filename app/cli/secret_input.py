"""Read an upstream's key from where no other process sees it: a variable, a file, standard input or a prompt."""

import sys
from contextlib import nullcontext
from pathlib import Path

import typer

_LONGEST_SECRET = 10_000


def given_secret(variable: str | None, file: Path | None) -> str:
    """Return the key from its variable, file, standard input or prompt; no message quotes it."""
    if variable is not None:
        import os

        if not (found := os.environ.get(variable, "")):  # noqa: TID251 - a name that was typed, no setting
            raise typer.BadParameter(f"The environment variable {variable} is not set.")
        return found.strip()
    if file is None and sys.stdin.isatty():
        typed: str = typer.prompt("Key", hide_input=True, err=True)
        return typed.strip()
    try:
        with nullcontext(sys.stdin) if file is None else file.open() as opened:
            return opened.read(_LONGEST_SECRET).strip()
    except (OSError, UnicodeDecodeError) as error:
        where = "Standard input" if file is None else f"The file {file}"
        raise typer.BadParameter(f"{where} cannot be read ({type(error).__name__}).") from None
