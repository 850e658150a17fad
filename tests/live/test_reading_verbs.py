"""No command but `serve` and `migrate` founds anything, and one that reads changes nothing at all."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import MetaData, create_engine, select, text
from typer.core import TyperGroup
from typer.testing import CliRunner

from app.__main__ import cli
from app.security.key_ring import KeyRing
from app.storage.engine.location import DatabaseLocation
from app.storage.schema_migration import open_for_migration
from app.storage.tables import REVISION
from tests.fakes.founded import found

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECRET = "a secret of sixteen characters"
READING: Mapping[str, tuple[str, ...]] = {
    "projects list": (),
    "projects show": ("default",),
    "keys list": (),
    "keys show": ("{key_id}",),
    "upstreams list": (),
    "upstreams test": ("demo/none",),
    "secrets status": (),
    "usage": (),
    "calls": (),
    "audit": (),
}
WRITING: Mapping[str, tuple[str, ...]] = {
    "projects create": ("team",),
    "projects update": ("default", "--rpm", "5"),
    "projects erase": ("default",),
    "keys create": ("--name", "x"),
    "keys update": ("key_x", "--name", "y"),
    **{f"keys {verb}": ("key_x",) for verb in ("rotate", "block", "unblock", "revoke")},
    "upstreams add": ("main", "--base-url", "https://api.openai.com/v1"),
    "upstreams update": ("main", "--tier", "1"),
    "upstreams remove": ("main",),
    "upstreams add-key": ("main", "--from-env", "LANG"),
    "upstreams remove-key": ("main", "ukey_x"),
    **{f"upstreams {verb}": ("demo/none",) for verb in ("enable", "drain", "disable")},
}
# These do not ask the database, or are what makes it.
OTHER = {"serve", "migrate", "version", "healthcheck", "settings"}


class Place:
    """A database and a data folder, of which every change is seen."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        cleared = {name: "" for name in os.environ if name.startswith(("ANTIPHON_", "OPENAI_"))}
        own = {"ANTIPHON_SECRET_KEY": SECRET, "ANTIPHON_DATA_DIR": str(folder), "DATABASE_URL": url, "LANG": "C"}
        self.environment = {**cleared, **own}

    def run(self, verb: str, *arguments: str) -> tuple[int, str]:
        """The status with which it ends, and what it says of that."""
        done = CliRunner().invoke(cli, [*verb.split(), *arguments], env=self.environment)
        return done.exit_code, str(done.exception or done.output)

    def state(self) -> tuple[dict[str, list[Any]], list[str]]:
        """Every row of every table, and the names of the files."""
        engine = create_engine(DatabaseLocation.parse(self.url).url)
        metadata = MetaData()
        with engine.connect() as connection:
            metadata.reflect(connection)
            rows = {name: [*map(tuple, connection.execute(select(table)))] for name, table in metadata.tables.items()}
        engine.dispose()
        return rows, self.files()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*"))

    def execute(self, statement: str) -> list[Any]:
        with open_for_migration(self.url) as connection:
            done = connection.execute(text(statement))
            return [*done.scalars()] if done.returns_rows else []


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Place:
    return Place(tmp_path, database_url)


def verbs(command: object, name: str = "") -> list[str]:
    if not isinstance(command, TyperGroup):
        return [name]
    return [verb for word, part in command.commands.items() for verb in verbs(part, f"{name} {word}".strip())]


def test_every_verb_is_looked_at_here() -> None:
    assert {*verbs(typer.main.get_command(cli))} == {*READING, *WRITING, *OTHER}


def test_verbs_that_read_write_nothing(place: Place) -> None:
    asyncio.run(found(place.url, KeyRing(SECRET.encode()), with_keys=True))
    # What a look at the pool's health would tidy up.
    place.execute(
        "INSERT INTO conditions (account, model, state, step, reason, until, rest, changed_at, version) "
        "VALUES ('gone/1', '', 'cooling', 1, 'rate', 1, 1, 1, 1)"
    )
    (key_id, *_) = place.execute("SELECT id FROM api_keys")
    before = place.state()
    for verb, arguments in READING.items():
        for form in ((), ("--json",)):
            status, said = place.run(verb, *(each.format(key_id=key_id) for each in arguments), *form)
            assert status == 0, (verb, said)
            assert place.state() == before, verb


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE alembic_version SET version_num = '0009'", "antiphon migrate"),
        pytest.param(
            "UPDATE alembic_version SET version_num = '9999'", "newer than this version", marks=pytest.mark.slow
        ),
        ("DELETE FROM alembic_version", "antiphon serve"),
        pytest.param("DELETE FROM meta", "antiphon serve", marks=pytest.mark.slow),
    ],
)
def test_a_database_of_another_version_is_left_as_it_is(place: Place, change: str, told: str) -> None:
    place.execute(change)
    before = place.state()
    for verb, arguments in {**READING, **WRITING}.items():
        status, said = place.run(verb, *(each.format(key_id="key_x") for each in arguments))
        assert (status, said.count("\n")) == (1, 0), (verb, said)
        assert told in said, (verb, said)
        assert place.state() == before, verb


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", f"sqlite:///{tmp_path}/data/antiphon.db")
    place.environment["ANTIPHON_SECRET_KEY"] = ""
    for verb, arguments in {**READING, **WRITING}.items():
        status, said = place.run(verb, *(each.format(key_id="key_x") for each in arguments))
        assert (status, said.count("\n")) == (1, 0), (verb, said)
        assert "antiphon serve" in said
        assert list(tmp_path.iterdir()) == []


def test_a_command_makes_no_secret(place: Place) -> None:
    asyncio.run(found(place.url, KeyRing(SECRET.encode())))
    place.environment["ANTIPHON_SECRET_KEY"] = ""
    before = place.state()
    for verb in ("keys list", "projects list"):
        status, said = place.run(verb)
        assert status == 1
        assert "ANTIPHON_SECRET_KEY" in said
    assert place.state() == before


def test_the_schema_that_commands_ask_for_is_this_codes(place: Place) -> None:
    assert place.execute("SELECT version_num FROM alembic_version") == [REVISION]
