"""Open the installation for a verb, name its operator, and print tables and JSON."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from app.administration.actor import Actor
    from app.boot.installation import Installation

_LOGIN_FILE = Path("/proc/self/loginuid")
# The login id of a process without a login: a service, or a container.
_NO_LOGIN = 2**32 - 1

T = TypeVar("T")
Columns = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""A table's columns: headings, and functions from an object to a cell."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the REST API has it.")]
After = Annotated[str | None, typer.Option(help="Show what follows on this id, the last of the page before.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="How many to show.")]


def administer(work: "Callable[[Installation, Actor], Awaitable[T]]") -> T:
    """Run `work` on the installation of the environment's settings, as the operator; returns its result."""
    from app.boot.installation import command_on

    async def run() -> T:
        async with command_on(writes=True) as installation:
            return await work(installation, operator())

    return asyncio.run(run())


def query(work: "Callable[[Installation], Awaitable[T]]") -> T:
    """Run `work` on the installation of the environment's settings, unable to write; returns its result."""
    from app.boot.installation import command_on

    async def run() -> T:
        async with command_on(writes=False) as installation:
            return await work(installation)

    return asyncio.run(run())


def operator(login_file: Path = _LOGIN_FILE) -> "Actor":
    """Name the user that runs the command, and the login user, which the kernel keeps through sudo and su.

    Environment variables are not read: whoever types the command chooses them.
    """
    from app.administration.actor import Actor

    user = os.getuid()
    try:
        login = int(login_file.read_text())
    except (OSError, ValueError):
        login = _NO_LOGIN
    names = [_user_name(user), *([] if login in (user, _NO_LOGIN) else [f"logged in as {_user_name(login)}"])]
    return Actor(f"command line ({', '.join(names)})")


def changes(fixed: Mapping[str, Any], removable: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options by member; the word `none` removes a `removable` member."""
    given = {name: value for name, value in {**fixed, **removable}.items() if value is not None}
    for name in removable.keys() & given.keys():
        if given[name] in ("none", ["none"]):
            given[name] = None if given[name] == "none" else []
    return given


def print_json(value: Any) -> None:
    """Print one JSON object, on one line."""
    import orjson

    print(orjson.dumps(value).decode())


def print_page(found: Sequence[Mapping[str, Any]], limit: int, columns: Columns, *, as_json: bool) -> None:
    """Print up to `limit` objects of what a query for one more has found."""
    from app.administration.views import resources

    rows, has_more = found[:limit], len(found) > limit
    if as_json:
        print_json(resources.page(rows, has_more=has_more))
        return
    print_table(rows, columns)
    if has_more:
        typer.echo(f"More follow: add --after {rows[-1]['id']}", err=True)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    """Print a table: a line of headings, then a line for each row."""
    cells = [[_cell(value(row)) for value in columns.values()] for row in rows]
    lines = [[heading.upper() for heading in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_members(members: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one object: a line for each member."""
    if as_json:
        print_json(members)
        return
    flat = dict(_flat(members))
    width = max(map(len, flat))
    for name, value in flat.items():
        print(f"{name.ljust(width)}  {_cell(moment(value) if name.endswith('_at') else value)}")


def moment(seconds: int | None) -> str | None:
    """Format unix seconds as a date and time in UTC."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def member(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Make the column that shows this member."""
    return lambda row: row[name]


def _cell(value: Any) -> str:
    if value is None or value in ([], (), ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(_cell, value))
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_cell(part)}" for name, part in value.items() if part is not None)
    # No control characters: a name must not move the reader's cursor.
    return "".join(character if character.isprintable() else "?" for character in str(value))


def _flat(members: Mapping[str, Any], prefix: str = "") -> "Sequence[tuple[str, Any]]":
    flat: list[tuple[str, Any]] = []
    for name, value in members.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}.")
        elif name != "object":
            flat.append((f"{prefix}{name}", value))
    return flat


def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
