"""One gateway's state, opened by a command or at start: its secret, its database, its projects and keys."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.auth import KeyHasher, mint_key
from app.errors import ConfigurationError
from app.ids import new_id
from app.settings import StorageSettings, load_settings
from app.state.records import ApiKey, Project
from app.storage.database import Database
from app.storage.key_store import KeyStore
from app.storage.meta_store import MetaStore
from app.storage.project_store import ProjectStore
from app.storage.schema import migrate
from app.storage.writer import Writer

DEFAULT_PROJECT = "default"
_FINGERPRINT = "secret_fingerprint"
_SECRET_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Installation:
    """The stores that commands work with."""

    projects: ProjectStore
    keys: KeyStore
    hasher: KeyHasher

    async def create_key(self, name: str, project: Project) -> str:
        """Mint an API key for the project. This return value is the only time the key is seen."""
        key = mint_key()
        record = ApiKey(
            id=new_id("key"),
            project_id=project.id,
            name=name,
            hint=key[-4:],
            created_at=int(time.time()),
            revoked_at=None,
            retention_days=None,
        )
        await self.keys.create(record, self.hasher.hash(key))
        return key

    async def create_project(self, name: str, retention_days: int | None = None) -> Project:
        """Create a project. Raises ConfigurationError when the name is taken."""
        project = Project(new_id("proj"), name, retention_days, int(time.time()))
        await self.projects.create(project)
        return project

    async def project(self, name: str) -> Project:
        """Return the project of this name, or raise ConfigurationError."""
        found = await self.projects.find(name)
        if found is None:
            raise ConfigurationError(
                f"There is no project named '{name}'. `antiphon projects list` shows those there are."
            )
        return found

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a key from now on. Raises ConfigurationError when there is no such living key."""
        if not await self.keys.revoke(key_id, int(time.time())):
            raise ConfigurationError(f"There is no active key '{key_id}'. `antiphon keys list` shows those there are.")

    async def first_key(self) -> str | None:
        """Make the default project and its key where there is no project yet; None where there is one."""
        if await self.projects.list():
            return None
        try:
            project = await self.create_project(DEFAULT_PROJECT)
        except ConfigurationError:
            # Another replica was a moment faster; the key is in its log.
            return None
        return await self.create_key("first", project)


@asynccontextmanager
async def opened(settings: StorageSettings, secret: bytes) -> AsyncIterator[Installation]:
    """Open the database for a command. Its schema must be current, and its keys made with this secret."""
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds)
    writer = Writer(database, settings.commit_timeout_seconds)
    try:
        hasher = KeyHasher(secret)
        kept = await MetaStore(writer).write_once(_FINGERPRINT, hasher.fingerprint)
        if kept != hasher.fingerprint:
            raise ConfigurationError(
                "The secret key is not the one this database's API keys were made with, so none of them would work. "
                "Set ANTIPHON_SECRET_KEY (or restore secret.key in the data folder) to what it was. "
                f"The database was made with {kept}, this secret is {hasher.fingerprint}."
            )
        yield Installation(ProjectStore(database, writer), KeyStore(database, writer), hasher)
    finally:
        await writer.aclose()
        await database.aclose()


@asynccontextmanager
async def command_on() -> AsyncIterator[Installation]:
    """Open the installation that the environment's settings name, with its schema brought up to date."""
    storage = load_settings().storage
    secret = read_secret(storage)
    migrate(storage.url)
    async with opened(storage, secret) as installation:
        if not await installation.projects.list():
            await installation.create_project(DEFAULT_PROJECT)
        yield installation


def read_secret(settings: StorageSettings) -> bytes:
    """The master secret: the setting, else the data folder's `secret.key`, which is made when it is missing."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = settings.data_dir / "secret.key"
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, os.urandom(32).hex() + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"The data folder '{settings.data_dir}' cannot be written ({error.strerror}). "
            "Set ANTIPHON_DATA_DIR to a folder this user owns."
        ) from error
    try:
        secret = path.read_text().strip()
        # Another process may have made the file this very moment, and be about to write it.
        deadline = time.monotonic() + _SECRET_WAIT_SECONDS
        while not secret and time.monotonic() < deadline:
            time.sleep(0.01)
            secret = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"The secret in '{path}' cannot be read ({error.strerror}).") from error
    if not secret:
        raise ConfigurationError(f"The secret in '{path}' is empty. Restore it from a backup.")
    return secret.encode()


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError when it is there already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
