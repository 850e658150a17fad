"""The administration over a fresh database, on every kind of one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.keys import ApiKeys
from app.administration.projects import Projects
from app.security.authentication import KeyHasher, mint_key
from app.security.key_ring import KeyRing
from app.state.records import Project
from app.storage.audit import AuditStore
from app.storage.engine.database import Database
from app.storage.keys.store import KeyStore
from app.storage.projects.erasure import ProjectErasure
from app.storage.projects.store import ProjectStore
from app.storage.responses.retention import Retention
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT

MASTER = Actor("master key", "192.0.2.1")


@dataclass
class Office:
    """Everything that is administered here; `changed` are the ids that others were told of."""

    keys: ApiKeys
    projects: Projects
    audit: Audit
    store: KeyStore
    hasher: KeyHasher
    changed: list[str] = field(default_factory=list)

    async def actions(self) -> list[str]:
        """What was recorded, oldest first."""
        return [record.action for record in reversed(await self.audit.list(limit=100))]


@pytest.fixture
def office(database: Database, writer: Writer) -> Office:
    return office_of(database, writer)


@pytest.fixture
async def replicas(postgresql_url: str) -> AsyncIterator[tuple[Office, Office]]:
    """The offices of two processes on one database."""
    async with AsyncExitStack() as stack:
        offices = []
        for _ in range(2):
            database = Database(postgresql_url, pool_size=2, commit_timeout=COMMIT_TIMEOUT)
            stack.push_async_callback(database.aclose)
            writer = Writer(database, COMMIT_TIMEOUT)
            stack.push_async_callback(writer.aclose)
            offices.append(office_of(database, writer))
        yield offices[0], offices[1]


def office_of(database: Database, writer: Writer) -> Office:
    keys, projects = KeyStore(database, writer), ProjectStore(database)
    audit, hasher = Audit(AuditStore(database, writer)), KeyHasher(KeyRing(b"a secret of sixteen characters and more"))
    changed: list[str] = []
    return Office(
        ApiKeys(keys, projects, audit, mint=mint_key, hash_of=hasher.hash, changed=changed.append),
        Projects(
            projects, audit, Retention(database, writer, 30), ProjectErasure(database, writer), changed=changed.append
        ),
        audit,
        keys,
        hasher,
        changed,
    )


@pytest.fixture
async def project(office: Office) -> Project:
    return await office.projects.create(MASTER, name="team")
