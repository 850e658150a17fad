"""The database that the settings name."""

import pytest
from pydantic import ValidationError

from app.settings.gateway import Settings, load_settings
from app.settings.server import ServerSettings
from app.storage.engine.location import DatabaseLocation
from tests.settings.problems import problem


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h:6543/d?sslmode=require", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+psycopg"),
        ("sqlite:///some/file.db", "sqlite"),
        ("sqlite+aiosqlite:////var/lib/file.db", "sqlite"),
    ],
)
def test_database_urls_are_taken_as_they_are_pasted(given: str, driver: str) -> None:
    storage = load_settings(environ={"DATABASE_URL": given}).storage
    assert storage.url == given
    assert storage.is_sqlite == driver.startswith("sqlite")
    assert DatabaseLocation.parse(storage.url).url.drivername == driver


@pytest.mark.parametrize(
    "given",
    [
        "mysql://team:pa55word@h/d",
        "postgresql+asyncpg://team:pa55word@h/d",
        "postgres:pa55word",
        "postgresql://team:pa55word/x@h/d",
        "postgresql://[pa55word/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/pa55word",
        "pa55word",
    ],
)
def test_other_database_urls_are_refused(given: str) -> None:
    assert problem({"DATABASE_URL": given}).startswith("DATABASE_URL: ")


def test_an_empty_database_flag_is_refused_rather_than_used() -> None:
    assert problem(flags={"database_url": ""}).startswith("--database-url: must be postgresql://")


def test_the_default_database_is_in_the_data_folder() -> None:
    storage = load_settings(environ={"ANTIPHON_DATA_DIR": "/var/lib/antiphon"}).storage
    assert storage.url == "sqlite:////var/lib/antiphon/antiphon.db"


def test_several_workers_on_sqlite_are_refused() -> None:
    found = problem({"ANTIPHON_WORKERS": "2"})
    assert found.startswith("ANTIPHON_WORKERS: ")
    assert "set DATABASE_URL to a PostgreSQL database" in found
    with pytest.raises(ValidationError):
        Settings(server=ServerSettings(workers=2))


def test_a_wrong_database_url_is_not_also_called_sqlite() -> None:
    assert problem({"ANTIPHON_WORKERS": "2", "DATABASE_URL": "mysql://h/d"}).startswith("DATABASE_URL: ")
