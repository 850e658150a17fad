"""One gateway's state, opened by a command or at start: its secrets, its database, its projects and keys.

Invariant: a start alone makes what a gateway begins with: the fingerprint of its secret, the default project, the first
keys. A command finds all that or says what to do, and one that reads cannot write (`tests/live/test_reading_verbs.py`).
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.keys import Keys
from app.administration.projects import Projects
from app.administration.secrets import SecretUse, secret_uses
from app.auth import KeyHasher, mint_key
from app.errors import ConfigurationError, NotFoundError
from app.ids import new_id
from app.master_secret import kept_secret
from app.sealing import KeyRing, SealError, Vault
from app.settings import StorageSettings, load_settings
from app.state.policy import ANY_KEY, SCOPES, KeyPolicy
from app.state.records import ApiKey, Project
from app.storage.audit_store import AuditStore
from app.storage.condition_store import ConditionStore
from app.storage.database import Database
from app.storage.founding import FOUNDED_NAME, Founding
from app.storage.key_store import KeyStore
from app.storage.meta_store import MetaStore, Replace
from app.storage.project_erasure import ProjectErasure
from app.storage.project_store import ProjectStore
from app.storage.retention import Retention
from app.storage.schema import check_current
from app.storage.upstream_store import UpstreamStore
from app.storage.usage_store import UsageStore
from app.storage.writer import Writer

DEFAULT_PROJECT = "default"
_COMMAND = Actor("command line")
_START = Actor("gateway start")
_FINGERPRINT = "secret_fingerprint"
_RING = "secret_keys."


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
    ring: KeyRing
    vault: Vault
    meta: MetaStore

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

    async def first_keys(self, *, with_admin: bool, are_kept: bool) -> FirstKeys | None:
        """Make the first keys of a database that never had any made so, and the default project where it is missing.

        Unless they `are_kept` by somebody, none are made: a later start makes them. None when there are none to show.
        """
        if await self.meta.get(FOUNDED_NAME) is not None:
            return None
        if not are_kept and await self.projects.list(limit=1):
            return None
        project = await self.projects.find(DEFAULT_PROJECT) or Project(
            new_id("proj"), DEFAULT_PROJECT, None, int(time.time())
        )
        made = FirstKeys(mint_key(), mint_key() if with_admin else None)
        records = [(_first(project, "first", made.key, ANY_KEY), self.hasher.hash(made.key))]
        if made.admin_key is not None:
            admin = _first(project, "first admin", made.admin_key, KeyPolicy(scopes=SCOPES))
            records.append((admin, self.hasher.hash(made.admin_key)))
        founding = Founding(project, records if are_kept else [])
        details = {"keys": [record.id for record, _ in founding.keys]}
        # Another replica may be a moment faster; the keys are in its log then.
        is_ours = await self.audit.submit(_START, "gateway.found", project.id, details, founding)
        return made if is_ours and are_kept else None

    async def read_secrets(self) -> None:
        """Learn which master secret is written under, and what earlier ones can be read. Writes nothing.

        Raises ConfigurationError for a database that was made with another secret, or that no gateway has opened yet.
        """
        named = await self.meta.get(_FINGERPRINT)
        if named is None:
            raise ConfigurationError("No gateway has been started on this database yet: start `antiphon serve` first.")
        await self._load(named)

    async def name_secret(self) -> None:
        """Have a new database made with the present master secret; else as `read_secrets`."""
        await self._load(await self.meta.write_once(_FINGERPRINT, self.ring.present))

    async def take_over_secrets(self) -> None:
        """Keep the keys of earlier secrets under the present one, and write under that once no other one is configured.

        Replicas that know the secret before alone serve on until then: nothing is written that they cannot read. Raises
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
        """Which master secrets are in use, and which of them a setting has to keep."""
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
        """The stored upstream keys that are not sealed under the named secret: (as it is, as it should be), by id."""
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
async def opened(settings: StorageSettings, ring: KeyRing) -> AsyncIterator[Installation]:
    """Open a database with the current schema for a gateway; one without a secret is made with the present one."""
    database = Database(settings.url, settings.pool_size, settings.commit_timeout_seconds)
    async with _installation(settings, ring, database) as (installation, _):
        await installation.name_secret()
        yield installation


@asynccontextmanager
async def command_on(*, writes: bool) -> AsyncIterator[Installation]:
    """Open the installation that the environment's settings name, beside a gateway that may serve from it.

    Raises ConfigurationError, with what to do, where there is none, or one of another version's schema.
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
            ring,
            Vault(ring),
            MetaStore(database, writer),
        )
        yield installation, writer
    finally:
        await writer.aclose()
        await database.aclose()
