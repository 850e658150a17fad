"""From valid settings to a database that can be served from, however long it takes for that to be there.

What may yet come is waited for: a server that refuses connections or starts up, a name that does not resolve, a full
disk. What somebody has to change ends the start: a password, a database's name, the secret, a file that is no database.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.errors import ConfigurationError, StorageError
from app.installation import FirstKeys, opened, write_private
from app.relay.readiness import Readiness
from app.relay.roster import Roster
from app.settings import Settings, StorageSettings
from app.settings_upstream import UpstreamSettings
from app.storage.schema import migrate_aside

_AGAIN_SECONDS = 1.0

_log = structlog.get_logger("antiphon.start")


@dataclass(frozen=True, slots=True)
class Opened:
    """The keys of a first start, and the upstreams that will be served."""

    first_keys: FirstKeys | None
    upstreams: Sequence[UpstreamSettings]


async def open_installation(settings: Settings, secret: bytes, readiness: Readiness) -> Opened:
    """Bring the schema up to date, take over secrets and make first keys, once the database is there.

    Until then `readiness` and the log say what is waited for. Raises ConfigurationError for what does not pass.
    """
    waited = False
    while True:
        try:
            await migrate_aside(settings.storage.url)
            found = await _prepare(settings, secret)
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


async def _prepare(settings: Settings, secret: bytes) -> Opened:
    """Raises ConfigurationError where others could reach a gateway that nobody administers."""
    server, storage = settings.server, settings.storage
    async with opened(storage, secret) as installation:
        await installation.take_over_secrets()
        upstreams = Roster(settings.upstreams, installation.vault).upstreams(await installation.upstreams.read())
        keys = await installation.first_keys(with_admin=server.admin_key is None)
        if keys is None and not (
            server.is_local or server.admin_key is not None or await installation.keys.has_administrator()
        ):
            raise ConfigurationError(
                f"Nobody could administer this gateway, and it would listen on {server.host}, where others reach it. "
                "Set ANTIPHON_ADMIN_KEY to 16 characters or more (`openssl rand -hex 32`), or make an admin key with "
                "`antiphon keys create --name admin --scope admin`."
            )
    if keys is not None:
        _save(storage, "first-api-key", keys.key)
        if keys.admin_key is not None:
            _save(storage, "first-admin-key", keys.admin_key)
    return Opened(keys, upstreams)


def _save(storage: StorageSettings, name: str, key: str) -> None:
    # The file of an earlier database is not overwritten, and beside PostgreSQL there may be no folder to write in.
    # The banner shows the key in any case.
    with suppress(OSError):
        storage.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(storage.data_dir / name, f"{key}\n")
