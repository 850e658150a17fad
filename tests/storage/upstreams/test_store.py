"""Upstreams and keys of administrators: one editor wins, a name is taken once, and every change is noticed."""

import asyncio
from dataclasses import replace

import pytest

from app.state.upstreams import StoredKey, StoredUpstream
from app.storage.engine.database import Database
from app.storage.upstreams.conditions import ConditionStore
from app.storage.upstreams.store import (
    AddKey,
    ChangeUpstream,
    ControlAccount,
    CreateUpstream,
    DeleteUpstream,
    RemoveKey,
    UpstreamStore,
)
from app.storage.writer.writer import Writer

TEAM = StoredUpstream("team", 1, 1_800_000_000, b'{"base_url":"https://llm.example/v1"}')
KEY = StoredKey("ukey_1", "team", "team/abc", "first", "wxyz", 1_800_000_000, "v1.fingerprint.sealed", b"{}")


@pytest.fixture
def store(database: Database, writer: Writer) -> UpstreamStore:
    return UpstreamStore(database, writer)


async def test_what_is_made_is_read(store: UpstreamStore, writer: Writer) -> None:
    empty = await store.read()
    assert (empty.revision, list(empty.upstreams), list(empty.keys), dict(empty.controls)) == (None, [], [], {})
    assert await writer.submit(CreateUpstream(TEAM))
    assert await writer.submit(AddKey(KEY))
    assert await writer.submit(ControlAccount("team/abc", "draining"))
    assert await writer.submit(ControlAccount("team/abc", "disabled"))
    stored = await store.read()
    assert (list(stored.upstreams), list(stored.keys)) == ([TEAM], [KEY])
    assert stored.controls == {"team/abc": "disabled"}
    await writer.submit(ControlAccount("team/abc", "enabled"))
    assert (await store.read()).controls == {}


async def test_every_change_makes_another_revision(store: UpstreamStore, writer: Writer, database: Database) -> None:
    conditions = ConditionStore(database, writer)
    revisions = [(await conditions.look(None)).revision]
    for change in (
        CreateUpstream(TEAM),
        AddKey(KEY),
        ChangeUpstream("team", 1, b"{}"),
        ControlAccount("team/abc", "draining"),
        RemoveKey("team", "ukey_1"),
        DeleteUpstream("team"),
    ):
        await writer.submit(change)
        revisions.append((await conditions.look(None)).revision)
        assert (await store.read()).revision == revisions[-1]
    assert len(set(revisions)) == len(revisions)


async def test_a_name_is_taken_once(store: UpstreamStore, writer: Writer) -> None:
    taken = [CreateUpstream(TEAM), CreateUpstream(replace(TEAM, settings=b"other"))]
    assert sorted(await asyncio.gather(*map(writer.submit, taken))) == [False, True]
    assert await writer.submit(AddKey(KEY))
    assert not await writer.submit(AddKey(replace(KEY, id="ukey_2", account="team/other")))
    assert not await writer.submit(AddKey(replace(KEY, id="ukey_2", name="other")))
    for number in (3, 4):
        nameless = replace(KEY, id=f"ukey_{number}", account=f"team/{number}", name=None)
        assert await writer.submit(AddKey(nameless))
    assert (await store.read()).upstreams == [TEAM]


async def test_of_two_editors_one_is_told(store: UpstreamStore, writer: Writer) -> None:
    await writer.submit(CreateUpstream(TEAM))
    edits = [ChangeUpstream("team", 1, b"one"), ChangeUpstream("team", 1, b"two")]
    assert sorted(await asyncio.gather(*map(writer.submit, edits))) == [False, True]
    assert (await store.read()).upstreams[0].version == 2


async def test_an_upstream_takes_its_keys_along(store: UpstreamStore, writer: Writer) -> None:
    await writer.submit(CreateUpstream(TEAM))
    await writer.submit(AddKey(KEY))
    await writer.submit(AddKey(replace(KEY, id="ukey_2", upstream="openai", account="openai/abc")))
    assert not await writer.submit(DeleteUpstream("openai"))
    assert await writer.submit(DeleteUpstream("team"))
    assert [key.id for key in (await store.read()).keys] == ["ukey_2"]
    assert not await writer.submit(RemoveKey("team", "ukey_2"))
    assert await writer.submit(RemoveKey("openai", "ukey_2"))


async def test_what_was_resealed_meanwhile_stays(store: UpstreamStore, writer: Writer) -> None:
    await writer.submit(AddKey(KEY))
    await store.reseal({"ukey_1": (KEY.secret, "v1.new.sealed")})
    await store.reseal({"ukey_1": (KEY.secret, "v1.late.sealed")})
    assert [key.secret for key in (await store.read()).keys] == ["v1.new.sealed"]
