"""Open a gateway's installation for a start or a command: its secrets, its database, its projects and keys.

Invariant: only a start makes the fingerprint of the secret, the default project and the first keys. A command finds
them or fails with what to do, and a command that reads cannot write (`tests/live/test_reading_verbs.py`).
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.keys import ApiKeys
from app.administration.projects import Projects
from app.administration.secrets import SecretUse, secret_uses
from app.errors import ConfigurationError, NotFoundError
from app.ids import new_id
from app.security.authentication import KeyHasher, mint_key
from app.security.cipher import SealError
from app.security.encryption import Vault
from app.security.key_ring import KeyRing
from app.security.master_secret import kept_secret
from app.settings.gateway import StorageSettings, load_settings
from app.state.policies import NEW_KEY, SCOPES, KeyPolicy
from app.state.records import ApiKey, Project
from app.storage.audit import AuditStore
from app.storage.engine.database import Database
from app.storage.keys.bootstrap import FOUNDED_NAME, CreateFirstKeys
from app.storage.keys.store import KeyStore
from app.storage.meta import MetaStore, Replace
from app.storage.projects.erasure import ProjectErasure
from app.storage.projects.store import ProjectStore
from app.storage.responses.retention import Retention
from app.storage.schema_migration import check_current
from app.storage.upstreams.conditions import ConditionStore
from app.storage.upstreams.store import UpstreamStore
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer

DEFAULT_PROJECT = "default"
_COMMAND = Actor("command line")
_START = Actor("gateway start")
_FINGERPRINT = "secret_fingerprint"
_RING = "secret_keys."


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """Hold the keys that a first start made: an API key, and an admin key unless there is a master key."""

    key: str = field(repr=False)
    admin_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """Hold the opened stores and rules that commands and a start use."""

    projects: Projects
    keys: ApiKeys
    audit: Audit
    usage: UsageStore
    conditions: ConditionStore
    hasher: KeyHasher
    upstreams: UpstreamStore
    ring: KeyRing
    vault: Vault
    meta: MetaStore

    async def create_key(self, name: str, project: Project) -> str:
        """Make an API key for the project, and return it, this once."""
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

    async def first_keys(self, *, with_admin: bool, are_kept: bool) -> FirstKeys | None:
        """Make the first keys of a new database, and the default project where it is missing; None if none were made.

        Unless somebody will keep the keys (`are_kept`) none are made: a later start makes them.
        """
        if await self.meta.get(FOUNDED_NAME) is not None:
            return None
        if not are_kept and await self.projects.list(limit=1):
            return None
        project = await self.projects.find(DEFAULT_PROJECT) or Project(
            new_id("proj"), DEFAULT_PROJECT, None, int(time.time())
        )
        made = FirstKeys(mint_key(), mint_key() if with_admin else None)
        records = [(_first(project, "first", made.key, NEW_KEY), self.hasher.hash(made.key))]
        if made.admin_key is not None:
            admin = _first(project, "first admin", made.admin_key, KeyPolicy(scopes=SCOPES))
            records.append((admin, self.hasher.hash(made.admin_key)))
        founding = CreateFirstKeys(project, records if are_kept else [])
        details = {"keys": [record.id for record, _ in founding.keys]}
        # Another replica may be faster; it shows or saves the keys then.
        is_ours = await self.audit.submit(_START, "gateway.found", project.id, details, founding)
        return made if is_ours and are_kept else None

    async def read_secrets(self) -> None:
        """Load the key ring from the database: the secret to encrypt under, and earlier ones. Writes nothing.

        Raises ConfigurationError for a database that was made with another secret, or that no gateway has opened yet.
        """
        named = await self.meta.get(_FINGERPRINT)
        if named is None:
            raise ConfigurationError("No gateway has been started on this database yet: start `antiphon serve` first.")
        await self._load(named)

    async def name_secret(self) -> None:
        """Record the present secret's fingerprint in a new database, then load the key ring as `read_secrets`."""
        await self._load(await self.meta.write_once(_FINGERPRINT, self.ring.present))

    async def take_over_secrets(self) -> None:
        """Encrypt the keys of earlier secrets under the present one; re-encrypt all once no earlier one is configured.

        Until then replicas that only know the earlier secret serve on: nothing is written that they cannot read. Raises
        ConfigurationError, which names each stored upstream key that cannot be read; then nothing is changed.
        """
        resealed = await self._resealed()
        kept = await self.meta.below(_RING)
        for place, sealed in self.ring.unkept(kept).items():
            await self.meta.write_once(f"{_RING}{place}", sealed)
        named, present = self.ring.named.fingerprint, self.ring.present
        if not self.ring.is_own(named):
            others = [f"{_RING}{place}" for place in kept if not place.endswith(f".{present}")]
            change = Replace(_FINGERPRINT, named, present, others)
            await self.audit.submit(_START, "secret.change", present, {"from": named}, change)
            await self.name_secret()
            resealed = await self._resealed()
        if resealed:
            await self.upstreams.reseal(resealed)

    async def secret_uses(self) -> Sequence[SecretUse]:
        """Report which master secrets are in use, and which of them a setting has to keep."""
        return secret_uses(self.ring, await self.meta.below(_RING), (await self.upstreams.read()).keys)

    async def _load(self, named: str) -> None:
        try:
            self.ring.load(named, await self.meta.below(_RING))
        except SealError as error:
            raise ConfigurationError(
                "The secret key is not the one this database's API keys were made with, so none of them would work. "
                "Set ANTIPHON_SECRET_KEY (or restore secret.key in the data folder) to what it was, or "
                f"ANTIPHON_PREVIOUS_SECRET_KEYS to that beside the new one. {error}"
            ) from None

    async def _resealed(self) -> dict[str, tuple[str, str]]:
        """Re-encrypt the upstream keys that are not under the named secret; returns (old, new) by key id."""
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
        return resealed


def _nobody(_changed_id: str) -> None: ...


def _first(project: Project, name: str, key: str, policy: KeyPolicy) -> ApiKey:
    return ApiKey(
        new_id("key"), project.id, name, key[-4:], int(time.time()), None, project.retention_days, policy=policy
    )


@asynccontextmanager
async def open_installation(settings: StorageSettings, ring: KeyRing) -> AsyncIterator[Installation]:
    """Open the installation of a database with the current schema; a new database gets the present secret."""
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds)
    async with _installation(settings, ring, database) as (installation, _):
        await installation.name_secret()
        yield installation


@asynccontextmanager
async def command_on(*, writes: bool) -> AsyncIterator[Installation]:
    """Open the installation of the environment's settings for a command, beside a gateway that may be serving.

    Raises ConfigurationError, with what to do, if there is none, or its schema is another version's.
    """
    settings = load_settings().storage
    check_current(settings.url)
    ring = KeyRing(kept_secret(settings), settings.previous_secrets)
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds, is_guest=True)
    async with _installation(settings, ring, database) as (installation, writer):
        if not writes:
            await writer.aclose()
        await installation.read_secrets()
        yield installation


@asynccontextmanager
async def _installation(
    settings: StorageSettings, ring: KeyRing, database: Database
) -> AsyncIterator[tuple[Installation, Writer]]:
    writer = Writer(database, settings.commit_timeout_seconds)
    try:
        hasher = KeyHasher(ring)
        projects, keys = ProjectStore(database), KeyStore(database, writer)
        audit = Audit(AuditStore(database, writer))
        installation = Installation(
            # A command caches no key, so no change has to be announced.
            Projects(
                projects,
                audit,
                Retention(database, writer, settings.retention_days),
                ProjectErasure(database, writer),
                changed=_nobody,
            ),
            ApiKeys(keys, projects, audit, mint=mint_key, hash_of=hasher.hash, changed=_nobody),
            audit,
            UsageStore(database, writer),
            ConditionStore(database, writer),
            hasher,
            UpstreamStore(database, writer),
            ring,
            Vault(ring),
            MetaStore(database, writer),
        )
        yield installation, writer
    finally:
        await writer.aclose()
        await database.aclose()
