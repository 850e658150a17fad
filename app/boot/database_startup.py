"""Wait for the database at start, migrate its schema, and make the first keys.

The start waits for what may pass: a server that refuses connections or starts up, a name that does not resolve, a full
disk. It fails for what somebody has to change: a password, a database's name, the secret, a file that is no database.
"""

import asyncio

import structlog

from app.boot.first_keys import StartedDatabase, prepare
from app.errors import StorageError
from app.relay.process.readiness import Readiness
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings
from app.storage.schema_migration import migrate_aside

_AGAIN_SECONDS = 1.0

_log = structlog.get_logger("antiphon.start")


async def start_database(
    settings: Settings, ring: KeyRing, readiness: Readiness, *, shows_keys: bool
) -> StartedDatabase:
    """Migrate the schema, take over secrets and make first keys, once the database is there.

    Loads `ring` with the keys of earlier secrets. Until then `readiness` and the log say what the start waits for.
    Raises ConfigurationError for a fault that does not pass.
    """
    waited = False
    while True:
        try:
            await migrate_aside(settings.storage.url)
            found = await prepare(settings, ring, shows_keys=shows_keys)
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
    # The driver's message names the host and the user, never the password.
    return None if cause is None else str(getattr(cause, "orig", cause)).partition("\n")[0]
