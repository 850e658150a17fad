"""Idempotency keys: claimed by one call, whose answer is kept for a while, and no longer than what it shows."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text, update

from app.runtime.byte_budget import reserve_nothing
from app.settings.limits import LimitsSettings
from app.state.idempotency import Answer, Fingerprint, KeyedRequest
from app.state.records import Project
from app.storage.engine.database import Database
from app.storage.idempotency.store import IdempotencyStore, TooManyKeysError
from app.storage.idempotency.tables import idempotency_keys
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW, MakeResponse, Replica

LEASE = 60
ANSWER = Answer(200, ((b"content-type", b"application/json"),), b'{"id":"resp_1"}')


@pytest.fixture
def keys(database: Database, writer: Writer, project: Project) -> IdempotencyStore:
    assert project.id == "proj_a"
    return store_of(database, writer)


def store_of(database: Database, writer: Writer, **settings: Any) -> IdempotencyStore:
    return IdempotencyStore(database, writer, LimitsSettings(**settings))


def request(key: str = "one", body: bytes = b"{}", api_key_id: str = "key_1") -> KeyedRequest:
    hashed = Fingerprint(key, b"/v1/responses?")
    hashed.of(lambda _body, _depth: None)(body, 9)
    return hashed.request("proj_a", api_key_id)


async def change(database: Database, values: Mapping[str, Any]) -> None:
    """Change every key's row behind the store's back."""
    changed = update(idempotency_keys).values(values)
    await database.write(lambda session: session.write(lambda connection: connection.execute(changed)))


async def kept(keys: IdempotencyStore, keyed: KeyedRequest) -> tuple[int | None, bytes | None]:
    found = await keys.find(keyed)
    assert found is not None
    return found.status, await keys.read_body(found, reserve_nothing)


async def test_one_owner_has_a_key_and_its_answer_is_for_all_that_follow(keys: IdempotencyStore) -> None:
    assert await keys.claim(request(), "first", LEASE) is None
    running = await keys.claim(request(body=b"other"), "second", LEASE)
    assert running is not None
    assert (running.owner, running.status) == ("first", None)
    assert running.fingerprint == request().fingerprint != request(body=b"other").fingerprint
    await keys.finish(request(), "first", ANSWER)
    ended = await keys.claim(request(), "third", LEASE)
    assert ended is not None
    assert (ended.owner, ended.status, ended.headers, ended.is_kept) == (None, 200, ANSWER.headers, True)
    assert await keys.read_body(ended, reserve_nothing) == ANSWER.body


async def test_a_key_is_its_callers_own_and_is_not_kept_itself(keys: IdempotencyStore, database: Database) -> None:
    assert await keys.claim(request("a secret name"), "first", LEASE) is None
    assert await keys.claim(request("a secret name", api_key_id="key_2"), "second", LEASE) is None
    query = text("SELECT name FROM idempotency_keys")
    names = await database.read(lambda connection: connection.scalars(query).all())
    assert len(names) == 2
    assert not any("secret" in name for name in names)


async def test_a_key_that_is_forgotten_is_free(keys: IdempotencyStore) -> None:
    assert await keys.claim(request(), "first", LEASE) is None
    await keys.forget(request(), "somebody")
    assert await keys.find(request()) is not None
    await keys.forget(request(), "first")
    assert await keys.find(request()) is None
    assert await keys.claim(request(), "second", LEASE) is None


async def test_an_owner_that_is_gone_loses_the_key_and_keeps_nothing_any_more(
    keys: IdempotencyStore, database: Database
) -> None:
    assert await keys.claim(request(), "first", LEASE) is None
    await change(database, {"lease_until": 1})
    assert await keys.find(request()) is None
    assert await keys.claim(request(body=b"other"), "second", LEASE) is None
    await keys.finish(request(), "first", ANSWER)
    await keys.renew(["first"], LEASE)
    found = await keys.find(request())
    assert found is not None
    assert (found.owner, found.status) == ("second", None)


async def test_a_lease_is_renewed(keys: IdempotencyStore, database: Database) -> None:
    assert await keys.claim(request(), "first", LEASE) is None
    await change(database, {"lease_until": 1})
    await keys.renew(["first", "unknown"], LEASE)
    found = await keys.claim(request(), "second", LEASE)
    assert found is not None
    assert found.owner == "first"


async def test_replicas_that_claim_at_once_agree_on_one(keys: IdempotencyStore, database_url: str) -> None:
    replicas = [Replica(database_url) for _ in range(2)]
    stores = [keys, *(store_of(one.database, one.writer) for one in replicas)]
    try:
        for name in ("one", "two", "three"):
            made = await asyncio.gather(
                *[
                    store.claim(request(name), f"{place}_{number}", LEASE)
                    for place, store in enumerate(stores)
                    for number in range(4)
                ]
            )
            assert sum(before is None for before in made) == 1
            assert len({before.owner for before in made if before is not None}) == 1
    finally:
        for one in replicas:
            await one.aclose()


async def test_a_project_has_so_many_keys_in_a_day_and_a_repeat_takes_none(
    database: Database, writer: Writer, project: Project
) -> None:
    assert project.id == "proj_a"
    keys = store_of(database, writer, idempotency_keys=2)
    assert await keys.claim(request("one"), "1", LEASE) is None
    assert await keys.claim(request("two"), "2", LEASE) is None
    assert await keys.claim(request("two"), "3", LEASE) is not None
    with pytest.raises(TooManyKeysError, match="2 idempotency keys"):
        await keys.claim(request("three"), "4", LEASE)
    over = text("UPDATE limit_counts SET ends_at = 1")
    await database.write(lambda session: session.write(lambda connection: connection.execute(over)))
    assert await keys.claim(request("three"), "5", LEASE) is None


async def test_of_more_bytes_than_a_project_has_only_the_fact_is_kept(
    database: Database, writer: Writer, project: Project
) -> None:
    assert project.id == "proj_a"
    keys = store_of(database, writer, idempotency_bytes=len(ANSWER.body or b"") + 1)
    for name in ("one", "two"):
        assert await keys.claim(request(name), name, LEASE) is None
        await keys.finish(request(name), name, ANSWER)
    assert await kept(keys, request("one")) == (200, ANSWER.body)
    assert await kept(keys, request("two")) == (200, None)


async def test_an_answer_goes_with_the_response_that_it_shows(
    keys: IdempotencyStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("one"))
    answer = Answer(200, (), b"{}", object_id="resp_one")
    for name in ("before", "late"):
        assert await keys.claim(request(name), name, LEASE) is None
    await keys.finish(request("before"), "before", answer)
    assert await kept(keys, request("before")) == (200, b"{}")
    assert await responses.delete("proj_a", "resp_one", NOW)
    await keys.erase("proj_b", "resp_one")
    assert await kept(keys, request("before")) == (200, b"{}")
    await keys.erase("proj_a", "resp_one")
    # Its call ended when the response was gone already.
    await keys.finish(request("late"), "late", answer)
    assert await kept(keys, request("before")) == await kept(keys, request("late")) == (200, None)


async def test_what_has_expired_is_free_and_swept(keys: IdempotencyStore, database: Database) -> None:
    for name in ("one", "two", "three"):
        assert await keys.claim(request(name), name, LEASE) is None
        await keys.finish(request(name), name, ANSWER)
    await change(database, {"expires_at": 1})
    assert await keys.claim(request("one"), "again", LEASE) is None
    assert await keys.purge_expired(batch=1) == 2
    found = await keys.find(request("one"))
    assert found is not None
    assert found.owner == "again"
