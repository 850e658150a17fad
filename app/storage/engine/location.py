"""Parse the database's URL, as the operator wrote it, into SQLite's file or PostgreSQL's address."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """Locate a SQLite `file`, or (`file` is None) a PostgreSQL database behind `url`."""

    url: URL
    file: Path | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `sqlite:///path`, `postgresql://…` or `postgres://…`. A ConfigurationError never quotes the URL."""
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError) as error:
            raise ConfigurationError("The database URL cannot be read as a URL.") from error
        backend = parsed.get_backend_name()
        if backend in {"postgres", "postgresql"}:
            return cls(parsed.set(drivername="postgresql+psycopg"), None)
        if backend != "sqlite":
            raise ConfigurationError(f"The database must be sqlite or postgresql, not {backend}.")
        if not parsed.database or parsed.database.startswith((":memory:", "file:")):
            # Readers and the writer are separate connections: each would get an in-memory database of its own.
            raise ConfigurationError("SQLite needs the path of a file, as in sqlite:///data/antiphon.db.")
        file = Path(parsed.database).absolute()
        return cls(URL.create("sqlite", database=str(file)), file)

    @property
    def name(self) -> str:
        """Return the database's name for messages: the file, or host and database; no user, no password, no query."""
        if self.file is not None:
            return str(self.file)
        host = self.url.host or "local socket"
        return f"{self.url.database or 'postgres'} on {host}"

    def prepare(self) -> None:
        """Create SQLite's folder (0700) and file (0600) when they are missing; the WAL inherits the file's mode."""
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.file.exists():
                self.file.touch(mode=0o600)
        except OSError as error:
            raise ConfigurationError(
                f"The database file {self.file} cannot be created ({error.strerror}): check its folder."
            ) from error
