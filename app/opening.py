"""From valid settings to a database that can be served from, however long it takes for that to be there.

What may yet come is waited for: a server that refuses connections or starts up, a name that does not resolve, a full
disk. What somebody has to change ends the start: a password, a database's name, the secret, a file that is no database.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.banner import FirstKey
from app.errors import ConfigurationError, StorageError
from app.installation import opened
from app.master_secret import write_private
from app.relay.readiness import Readiness
from app.relay.roster import Roster
from app.sealing import KeyRing
from app.settings import Settings, StorageSettings
from app.settings_upstream import UpstreamSettings
from app.storage.schema import migrate_aside

_AGAIN_SECONDS = 1.0
# Earlier databases whose first keys one folder keeps.
_MOST_FILES = 100

_log = structlog.get_logger("antiphon.start")


@dataclass(frozen=True, slots=True)
class Opened:
    """The keys of a first start, and the upstreams that will be served.

    `lacks_keys`: no first key could be made, because there is neither a terminal to show it nor a folder to save it.
    """

    first_keys: Sequence[FirstKey]
    upstreams: Sequence[UpstreamSettings]
    lacks_keys: bool


async def open_installation(settings: Settings, ring: KeyRing, readiness: Readiness, *, shows_keys: bool) -> Opened:
    """Bring the schema up to date, take over secrets and make first keys, once the database is there.

    `ring` learns what it can read. Until the database is there `readiness` and the log say what is waited for. Raises
    ConfigurationError for what does not pass.
    """
    waited = False
    while True:
        try:
            await migrate_aside(settings.storage.url)
            found = await _prepare(settings, ring, shows_keys=shows_keys)
        except StorageError as error:
            readiness.waits("the database cannot be reached, or cannot be written to")
            if not waited:
                _log.warning("waiting for the database", reason=error.message, cause=_first_line(error.__cause__))
            waited = True
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            if waited:
                _log.info("the database is there")
            return found


def _first_line(cause: BaseException | None) -> str | None:
    # The driver's own words name the host and the user, never the password.
    return None if cause is None else str(getattr(cause, "orig", cause)).partition("\n")[0]


async def _prepare(settings: Settings, ring: KeyRing, *, shows_keys: bool) -> Opened:
    """Make the keys of a first start. One that can be neither shown nor saved is not made: nobody would ever have it.

    Raises ConfigurationError where others could reach a gateway that nobody administers.
    """
    server, storage = settings.server, settings.storage
    async with opened(storage, ring) as installation:
        await installation.take_over_secrets()
        upstreams = Roster(settings.upstreams, installation.vault).upstreams(await installation.upstreams.read())
        may_make = shows_keys or _is_writable(storage.data_dir)
        keys = await installation.first_keys(with_admin=server.admin_key is None, are_kept=may_make)
        lacks_keys = not may_make and not await installation.keys.list(limit=1)
        if keys is None and not (
            server.is_local or server.admin_key is not None or await installation.keys.has_administrator()
        ):
            raise ConfigurationError(
                f"Nobody could administer this gateway, and it would listen on {server.host}, where others reach it. "
                "Set ANTIPHON_ADMIN_KEY to 16 characters or more (`openssl rand -hex 32`), or make an admin key with "
                "`antiphon keys create --name admin --scope admin`."
            )
    made = [] if keys is None else [("API", "first-api-key", keys.key)]
    if keys is not None and keys.admin_key is not None:
        made.append(("admin", "first-admin-key", keys.admin_key))
    first_keys = [FirstKey(kind, key, _save(storage, name, key)) for kind, name, key in made]
    return Opened(first_keys, upstreams, lacks_keys)


def _is_writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def _save(storage: StorageSettings, name: str, key: str) -> Path | None:
    """Write the key into a file of its own and return that. The file of an earlier database is not overwritten."""
    for number in range(1, _MOST_FILES):
        file = storage.data_dir / (name if number == 1 else f"{name}-{number}")
        try:
            write_private(file, f"{key}\n")
        except FileExistsError:
            continue
        except OSError:
            return None
        return file
    return None
