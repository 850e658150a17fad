"""Secrets that are looked for in all that a gateway says and writes, in every form that gives one away."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx
from sqlalchemy import MetaData, NullPool, create_engine, select

from app.storage.engine.location import DatabaseLocation

# Less than this of a secret is of no use, and may be there by chance: a key's last four characters are a hint.
_PIECE = 12
_OFFSETS = 3


class Evidence:
    """What was said and written, and where."""

    def __init__(self) -> None:
        self._said: list[tuple[str, bytes]] = []

    def add(self, place: str, said: str | bytes, *, showing: Sequence[str] = ()) -> None:
        """Keep what was said here, without the secrets that had to be shown, each of them once."""
        text = said.encode() if isinstance(said, str) else said
        for secret in showing:
            assert secret.encode() in text, place
            text = text.replace(secret.encode(), b"", 1)
        self._said.append((place, text))

    async def add_answer(self, answer: httpx.Response) -> None:
        """Keep an answer's headers and body; a hook for clients."""
        await answer.aread()
        place = f"{answer.status_code} to {answer.request.method} {answer.url.path}"
        self.add(place, b"\n".join([*(b": ".join(header) for header in answer.headers.raw), answer.content]))

    def add_files(self, folder: Path) -> None:
        """Keep what is in the files below this folder, by their names."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.add(path.name, path.read_bytes())

    def add_rows(self, database_url: str) -> None:
        """Keep what is in a database, by table and column."""
        engine = create_engine(DatabaseLocation.parse(database_url).url, poolclass=NullPool)
        tables = MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            for table in tables.tables.values():
                for row in connection.execute(select(table)).mappings():
                    for column, value in row.items():
                        self.add(f"{table.name}.{column}", value if isinstance(value, bytes) else str(value))

    def leaks(self, secrets: Mapping[str, str | bytes], kept: Mapping[str, set[str]]) -> set[tuple[str, str]]:
        """Each secret, by its name, that was said where it is not `kept`, and the place."""
        pieces = {name: set(_pieces(secret)) for name, secret in secrets.items()}
        return {
            (name, place)
            for place, text in self._said
            for name in secrets
            if place not in kept.get(name, set()) and any(piece in text for piece in pieces[name])
        }


def spellings(secret: str | bytes) -> Iterator[bytes]:
    """The secret as it may be written: plain, escaped, in hex, in base64 on its own or amid other bytes."""
    raw = secret.encode() if isinstance(secret, str) else secret
    yield raw
    escaped = repr(raw)[2:-1]
    yield escaped.encode()
    # And that as a text in JSON.
    yield escaped.replace("\\", r"\\").encode()
    yield quote_from_bytes(raw).encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for offset in range(_OFFSETS):
        for encode in (b64encode, urlsafe_b64encode):
            # Both ends depend on what is beside it.
            yield encode(b"\0" * offset + raw)[4 if offset else 0 : -4]


def _pieces(secret: str | bytes) -> Iterator[bytes]:
    for spelling in spellings(secret):
        for start in range(0, len(spelling) - _PIECE + 1, _PIECE):
            yield spelling[start : start + _PIECE]
