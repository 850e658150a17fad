"""One gateway's state, opened by a command or at start: its secret, its database, its projects and keys."""

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.keys import Keys
from app.administration.projects import Projects
from app.auth import KeyHasher, mint_key
from app.errors import ConfigurationError, NotFoundError
from app.ids import new_id
from app.sealing import SealError, Vault
from app.settings import StorageSettings, load_settings
from app.state.policy import ANY_KEY, SCOPES, KeyPolicy
from app.state.records import ApiKey, Project
from app.storage.audit_store import AuditStore
from app.storage.condition_store import ConditionStore
from app.storage.database import Database
from app.storage.founding import Founding
from app.storage.key_store import KeyStore
from app.storage.meta_store import MetaStore
from app.storage.project_erasure import ProjectErasure
from app.storage.project_store import ProjectStore
from app.storage.retention import Retention
from app.storage.schema import migrate
from app.storage.upstream_store import UpstreamStore
from app.storage.usage_store import UsageStore
from app.storage.writer import Writer

DEFAULT_PROJECT = "default"
_COMMAND = Actor("command line")
_START = Actor("first start")
_FINGERPRINT = "secret_fingerprint"
_SECRET_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What the first start on a database made: an API key, and one that administers, unless there is a master key."""

    key: str = field(repr=False)
    admin_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """What commands and a start work with."""

    projects: Projects
    keys: Keys
    audit: Audit
    usage: UsageStore
    conditions: ConditionStore
    hasher: KeyHasher
    upstreams: UpstreamStore
    vault: Vault

    async def create_key(self, name: str, project: Project) -> str:
        """Make an API key for the project. This return value is the only time the key is seen."""
        _, key = await self.keys.create(_COMMAND, project_id=project.id, name=name)
        return key

    async def create_project(self, name: str, retention_days: int | None = None) -> Project:
        """Create a project. Raises ConflictError when the name is taken."""
        return await self.projects.create(_COMMAND, name=name, retention_days=retention_days)

    async def project(self, name: str) -> Project:
        """Return the project of this name or id, or raise ConfigurationError."""
        found = await self.projects.find(name)
        if found is not None:
            return found
        try:
            return await self.projects.get(name)
        except NotFoundError:
            raise ConfigurationError(
                f"There is no project named '{name}'. `antiphon projects list` shows those there are."
            ) from None

    async def first_keys(self, *, with_admin: bool) -> FirstKeys | None:
        """Make the default project and its keys where there is no project yet; None where there is one."""
        if await self.projects.list(limit=1):
            return None
        project = Project(new_id("proj"), DEFAULT_PROJECT, None, int(time.time()))
        made = FirstKeys(mint_key(), mint_key() if with_admin else None)
        records = [(_first(project, "first", made.key, ANY_KEY), self.hasher.hash(made.key))]
        if made.admin_key is not None:
            admin = _first(project, "first admin", made.admin_key, KeyPolicy(scopes=SCOPES))
            records.append((admin, self.hasher.hash(made.admin_key)))
        details = {"keys": [record.id for record, _ in records]}
        founding = Founding(project, records)
        # Another replica may be a moment faster; the keys are in its log then.
        is_ours = await self.audit.submit(_START, "gateway.found", project.id, details, founding)
        return made if is_ours else None

    async def take_over_secrets(self) -> None:
        """See to it that every stored upstream key can be read, and that all are sealed under the present secret.

        Raises ConfigurationError, which names each key that cannot be read; then nothing is changed.
        """
        resealed: dict[str, tuple[str, str]] = {}
        problems: list[str] = []
        for key in (await self.upstreams.read()).keys:
            try:
                content = self.vault.open(key.id, key.secret)
            except SealError as error:
                problems.append(
                    f"The stored key {key.id} of the upstream '{key.upstream}' cannot be read: {error}. Set "
                    "ANTIPHON_SECRET_KEY to what it was, or ANTIPHON_PREVIOUS_SECRET_KEYS beside the new one."
                )
                continue
            if not self.vault.is_current(key.secret):
                resealed[key.id] = (key.secret, self.vault.seal(key.id, content))
        if problems:
            raise ConfigurationError(*problems)
        if resealed:
            await self.upstreams.reseal(resealed)


def _nobody(_changed_id: str) -> None: ...


def _first(project: Project, name: str, key: str, policy: KeyPolicy) -> ApiKey:
    return ApiKey(
        new_id("key"), project.id, name, key[-4:], project.created_at, None, project.retention_days, policy=policy
    )


def vault_of(secret: bytes, previous: Sequence[bytes]) -> Vault:
    """The vault of this master secret, which reads what was sealed under the previous ones too."""
    return Vault({KeyHasher(each).fingerprint: each for each in (secret, *previous)})


@asynccontextmanager
async def opened(settings: StorageSettings, secret: bytes) -> AsyncIterator[Installation]:
    """Open the database for a command. Its schema must be current, and its keys made with this secret."""
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds)
    writer = Writer(database, settings.commit_timeout_seconds)
    try:
        hasher = KeyHasher(secret, settings.previous_secrets)
        meta = MetaStore(writer)
        kept = await meta.write_once(_FINGERPRINT, hasher.fingerprint)
        if kept in hasher.earlier_fingerprints:
            await meta.replace(_FINGERPRINT, kept, hasher.fingerprint)
        elif kept != hasher.fingerprint:
            raise ConfigurationError(
                "The secret key is not the one this database's API keys were made with, so none of them would work. "
                "Set ANTIPHON_SECRET_KEY (or restore secret.key in the data folder) to what it was, or "
                "ANTIPHON_PREVIOUS_SECRET_KEYS to that beside the new one. "
                f"The database was made with {kept}, this secret is {hasher.fingerprint}."
            )
        projects, keys = ProjectStore(database), KeyStore(database, writer)
        audit = Audit(AuditStore(database, writer))
        yield Installation(
            # Nobody here remembers a key that could change.
            Projects(
                projects,
                audit,
                Retention(database, writer, settings.retention_days),
                ProjectErasure(database, writer),
                changed=_nobody,
            ),
            Keys(keys, projects, audit, mint=mint_key, hash_of=hasher.hash, changed=_nobody),
            audit,
            UsageStore(database, writer),
            ConditionStore(database, writer),
            hasher,
            UpstreamStore(database, writer),
            vault_of(secret, settings.previous_secrets),
        )
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
        if not await installation.projects.list(limit=1):
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
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError:
        # On a full disk an empty secret would be left, and taken for one that was lost.
        path.unlink(missing_ok=True)
        raise
