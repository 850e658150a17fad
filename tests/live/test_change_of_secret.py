"""The master secret is changed on replicas one by one: no key is refused, nothing that was sealed is lost (ADR 34)."""

from pathlib import Path

import httpx
import orjson
import pytest

from app.boot.installation import Installation, open_installation
from app.errors import ConfigurationError
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.state.upstreams import StoredKey
from app.storage.engine.database import Database
from app.storage.upstreams.store import AddKey
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.fakes.databases import sqlite_first
from tests.fakes.forked import ForkedGateway
from tests.fakes.founded import patient_storage
from tests.fakes.gateway import GatewayProcess

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

OLD, NEW, NEXT = b"the old master secret", b"the new master secret", b"the one after the new"


class Replica:
    """A gateway with these secrets, from one start to the next."""

    def __init__(self, url: str, *secrets: bytes) -> None:
        self.url = url
        self.ring = KeyRing(secrets[0], secrets[1:])
        self.sealer = Sealer(self.ring)

    async def start(self) -> "Replica":
        async with open_installation(patient_storage(self.url), self.ring) as installation:
            await installation.take_over_secrets()
        return self

    async def make_key(self, name: str) -> str:
        async with self.serving() as installation:
            project = await installation.projects.find("default") or await installation.create_project("default")
            return await installation.create_key(name, project)

    async def knows(self, key: str) -> bool:
        async with self.serving() as installation:
            hashes = (installation.hasher.hash(key), *installation.hasher.other_hashes(key))
            return any([await installation.keys._keys.find(each) is not None for each in hashes])

    async def add_upstream_key(self, name: str) -> None:
        database = Database(self.url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
        writer = Writer(database, COMMIT_TIMEOUT)
        async with self.serving() as installation:
            sealed = installation.vault.seal(f"ukey_{name}", f"sk-{name}")
        assert await writer.submit(
            AddKey(StoredKey(f"ukey_{name}", "main", f"main/{name}", name, "", 1, sealed, b"{}"))
        )
        await writer.aclose()
        await database.aclose()

    async def upstream_keys(self) -> set[str]:
        async with self.serving() as installation:
            return {installation.vault.open(key.id, key.secret) for key in (await installation.upstreams.read()).keys}

    def serving(self) -> "_Serving":
        return _Serving(self)


class _Serving:
    """The installation of a replica that goes on: it learns nothing that it did not know at its start."""

    def __init__(self, replica: Replica) -> None:
        self._known = replica.ring.named, dict(replica.ring._keys)
        self._ring = replica.ring
        self._opened = open_installation(patient_storage(replica.url), replica.ring)

    async def __aenter__(self) -> Installation:
        installation = await self._opened.__aenter__()
        self._ring.named, self._ring._keys = self._known
        return installation

    async def __aexit__(self, *error: object) -> None:
        await self._opened.__aexit__(None, None, None)


async def test_each_replica_reads_what_the_others_write_at_every_step(database_url: str) -> None:
    old = [await Replica(database_url, OLD).start() for _ in range(2)]
    keys = [await old[0].make_key("first")]
    await old[0].add_upstream_key("first")
    blobs = [old[0].sealer.seal("proj_a", b"first")]

    async def agree(replicas: list[Replica], step: str) -> None:
        for number, replica in enumerate(replicas):
            keys.append(await replica.make_key(f"{step} {number}"))
            blobs.append(replica.sealer.seal("proj_a", step.encode()))
            await replica.add_upstream_key(f"{step}-{number}")
        stored = {frozenset(await replica.upstream_keys()) for replica in replicas}
        assert len(stored) == 1, step
        for replica in replicas:
            assert [await replica.knows(key) for key in keys] == [True] * len(keys), step
            for blob in blobs:
                replica.sealer.open("proj_a", blob)

    # One replica has both; the other is not changed yet, and may even start again.
    both = await Replica(database_url, NEW, OLD).start()
    await agree([both, await Replica(database_url, OLD).start()], "one")
    both_too = await Replica(database_url, NEW, OLD).start()
    await agree([both, both_too], "both")
    # The old one is dropped on one of them, and then on the other.
    new = await Replica(database_url, NEW).start()
    await agree([new, both_too], "dropped")
    await agree([new, await Replica(database_url, NEW).start()], "new")
    # And once more, to a third.
    third = await Replica(database_url, NEXT, NEW).start()
    await agree([new, third], "next")
    await agree([await Replica(database_url, NEXT).start(), third], "last")
    with pytest.raises(ConfigurationError, match=r"was made with [0-9a-f]{16}, this secret is [0-9a-f]{16}"):
        await Replica(database_url, OLD).start()


async def test_what_is_sealed_at_the_end_can_be_opened_with_no_earlier_secret(database_url: str) -> None:
    await (await Replica(database_url, OLD).start()).add_upstream_key("one")
    await Replica(database_url, NEW, OLD).start()
    replica = await Replica(database_url, NEW).start()
    async with replica.serving() as installation:
        (key,) = (await installation.upstreams.read()).keys
        assert installation.vault.is_current(key.secret)
        assert key.secret.split(".")[1] == KeyRing(NEW).present
        (record, *_) = await installation.audit.list()
        assert (record.action, record.actor) == ("secret.change", "gateway start")
        assert orjson.loads(record.details) == {"from": KeyRing(OLD).present}
        for place in await installation.meta.below("secret_keys."):
            assert place.endswith(KeyRing(NEW).present)


async def test_a_report_says_which_secret_is_needed_still(database_url: str) -> None:
    replica = await Replica(database_url, OLD).start()
    await replica.add_upstream_key("one")

    async def uses(*secrets: bytes, starts: bool = False) -> dict[str, tuple[str, bool, int, bool]]:
        other = Replica(database_url, *secrets)
        if starts:
            await other.start()
        async with open_installation(patient_storage(database_url), other.ring) as installation:
            return {
                use.fingerprint: (use.source, use.is_written_under, use.upstream_keys, use.is_needed)
                for use in await installation.secret_uses()
            }

    old, new = KeyRing(OLD).present, KeyRing(NEW).present
    assert await uses(OLD) == {old: ("present", True, 1, True)}
    assert await uses(NEW, OLD) == {new: ("present", False, 0, True), old: ("previous", True, 1, True)}
    assert await uses(NEW, OLD, starts=True) == {new: ("present", False, 0, True), old: ("previous", True, 1, False)}
    assert await uses(NEW, starts=True) == {new: ("present", True, 1, True), old: ("database", False, 0, False)}


async def test_a_secret_that_nobody_kept_is_asked_for_by_name(database_url: str) -> None:
    await Replica(database_url, OLD).start()
    with pytest.raises(ConfigurationError, match="ANTIPHON_PREVIOUS_SECRET_KEYS"):
        await Replica(database_url, NEW).start()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.mark.slow
@sqlite_first
def test_gateways_serve_through_the_change(database_url: str, folders: tuple[Path, Path]) -> None:
    """On PostgreSQL two beside each other; on SQLite one, which starts again."""
    is_shared = database_url.startswith("postgresql")
    serving: list[GatewayProcess] = []

    def start(folder: Path, secret: bytes, *previous: bytes) -> GatewayProcess:
        secrets = {
            "ANTIPHON_SECRET_KEY": secret.decode(),
            "ANTIPHON_PREVIOUS_SECRET_KEYS": b",".join(previous).decode(),
        }
        gateway = ForkedGateway(folder, {"DATABASE_URL": database_url, "ANTIPHON_KEY_CACHE_SECONDS": "0", **secrets})
        serving.append(gateway.start())
        return gateway

    def statuses(key: str) -> set[int]:
        headers = {"authorization": f"Bearer {key}"}
        return {httpx.get(f"{gateway.url}/v1/models", headers=headers, timeout=60).status_code for gateway in serving}

    def restart(place: int, *secrets: bytes) -> None:
        serving[place].stop()
        gateway = serving.pop(place)
        start(gateway.data_dir.parent, *secrets)
        serving.insert(place, serving.pop())

    try:
        key = start(folders[0], OLD).key
        if is_shared:
            start(folders[1], OLD)
        for secrets in ((NEW, OLD), (NEW,)):
            for place in range(len(serving)):
                restart(place, *secrets)
                assert statuses(key) == {200}
                made = serving[place].run("keys", "create", "--name", f"of {place}").split()[-1]
                assert statuses(made) == {200}
        report = orjson.loads(serving[0].run("secrets", "status", "--json"))["data"]
        assert [(use["source"], use["is_written_under"]) for use in report] == [("present", True), ("database", False)]
    finally:
        for gateway in serving:
            gateway.stop()
