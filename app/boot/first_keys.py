"""Make the first keys of an installation, and save them; a key that can be neither shown nor saved is not made."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.boot.banner import FirstKey
from app.boot.installation import open_installation
from app.errors import ConfigurationError
from app.relay.pool_sync.served_upstreams import ServedUpstreams
from app.security.key_ring import KeyRing
from app.security.master_secret import write_private
from app.settings.gateway import Settings, StorageSettings
from app.settings.upstreams import UpstreamSettings

# At most so many databases' first keys are kept in one folder.
_MOST_FILES = 100


@dataclass(frozen=True, slots=True)
class StartedDatabase:
    """Hold the keys of a first start, and the upstreams that will be served.

    `lacks_keys`: no first key was made, because there is neither a terminal to show it nor a folder to save it.
    """

    first_keys: Sequence[FirstKey]
    upstreams: Sequence[UpstreamSettings]
    lacks_keys: bool


async def prepare(settings: Settings, ring: KeyRing, *, shows_keys: bool) -> StartedDatabase:
    """Take over secrets and make the first keys. A key that can be neither shown nor saved would be lost: none is made.

    Raises ConfigurationError for a gateway that other machines reach and nobody could administer.
    """
    server, storage = settings.server, settings.storage
    async with open_installation(storage, ring) as installation:
        await installation.take_over_secrets()
        upstreams = ServedUpstreams(settings.upstreams, installation.vault).upstreams(
            await installation.upstreams.read()
        )
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
    return StartedDatabase(first_keys, upstreams, lacks_keys)


def _is_writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def _save(storage: StorageSettings, name: str, key: str) -> Path | None:
    """Write the key into a new file and return it, None if that fails; no earlier file is overwritten."""
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
