"""What a sweep of expired responses takes and spares, and what it costs, on every database."""

import asyncio
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Select, select, text, update

from app.errors import StorageError
from app.storage.engine.database import Database
from app.storage.engine.query_plans import read_by_index
from app.storage.responses import expiry as response_expiry
from app.storage.responses.expiry import GRACE_SECONDS, ExpiryCursor, RemoveExpired, ResponseExpiry
from app.storage.responses.store import ResponseStore
from app.storage.tables import responses as responses_table
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.fakes.databases import locked
from tests.storage.conftest import NOW, MakeResponse, chain_of, count_responses, grow


@pytest.fixture
def expiry(database: Database, writer: Writer) -> ResponseExpiry:
    return ResponseExpiry(database, writer)


async def test_a_sweep_takes_what_is_expired_in_batches(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse
) -> None:
    await asyncio.gather(*(responses.save(make_response(f"old{n}", expires_at=NOW)) for n in range(25)))
    await responses.save(make_response("young"))
    assert await expiry.remove(NOW, batch=10) == 25
    assert await count_responses(database) == (1, 2)
    assert await expiry.remove(NOW) == 0


async def test_a_sweep_spares_the_ancestors_of_a_living_response(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse
) -> None:
    root = await grow(responses, make_response, "a", "b", expires_at=NOW)
    await responses.save(make_response("living", root.key, expires_at=NOW + 50))
    await responses.save(make_response("dead-fork", root.key, expires_at=NOW))

    assert await expiry.remove(NOW) == 1
    assert len((await chain_of(responses, "living")).turns) == 3
    assert await expiry.remove(NOW + 50) == 3
    assert await count_responses(database) == (0, 0)


@pytest.mark.parametrize("batch", [1, 3, 500])
async def test_a_sweep_of_a_forked_tree_takes_children_before_parents(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse, batch: int
) -> None:
    trunk = await grow(responses, make_response, "a", "b", "c", expires_at=NOW)
    for fork in ("d", "e"):
        await responses.save(make_response(fork, trunk.key, expires_at=NOW))
        tip = await chain_of(responses, fork, NOW - 1)
        await responses.save(make_response(f"{fork}2", tip.key, expires_at=NOW))

    assert await expiry.remove(NOW, batch) == 7
    assert await count_responses(database) == (0, 0)


async def test_an_unfinished_sweep_leaves_no_child_without_its_parent(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse
) -> None:
    tip = await grow(responses, make_response, *"abcdef", expires_at=NOW)
    assert tip.key is not None
    removed = await responses._writer.submit(RemoveExpired((tip.key,), NOW, 4))
    assert (removed.count, len(removed.left)) == (4, 1)
    assert len((await chain_of(responses, "b", NOW - 1)).turns) == 2
    assert await count_responses(database) == (2, 4)


async def test_a_sweep_looks_at_what_has_expired_since_the_one_before_it(
    responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await grow(responses, make_response, *"abcdef", expires_at=NOW)
    await responses.save(make_response("living", kept.key))
    looked: list[tuple[int, int]] = []
    look = expiry._look

    async def spy(place: ExpiryCursor, seen: int) -> Any:
        looked.append((place.expires_at, seen))
        return await look(place, seen)

    monkeypatch.setattr(expiry, "_look", spy)
    for number in range(2):
        await responses.save(make_response(f"old{number}", expires_at=NOW + number))
        looked.clear()
        assert await expiry.remove(NOW + number) == 1
    # Then it has come to the end of what is new, and looks again at a page of what is not.
    assert looked[0] == (NOW + 1, NOW)
    assert len([seen for _, seen in looked if seen == -1]) <= 2


async def test_a_sweep_that_failed_is_gone_on_with(
    database: Database,
    responses: ResponseStore,
    expiry: ResponseExpiry,
    make_response: MakeResponse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await asyncio.gather(*(responses.save(make_response(f"old{n}", expires_at=NOW)) for n in range(3)))
    with monkeypatch.context() as patched:
        patched.setattr(expiry, "_remove", _fails)
        with pytest.raises(StorageError):
            await expiry.remove(NOW)
    assert await count_responses(database) == (3, 6)
    assert await expiry.remove(NOW + 5) == 3


async def _fails(*_: object) -> int:
    raise StorageError("down")


async def test_what_earlier_sweeps_missed_is_found(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse
) -> None:
    await responses.save(make_response("old", expires_at=NOW))
    await responses.save(make_response("other", expires_at=NOW + 50))
    assert await expiry.remove(NOW) == 1
    changed = update(responses_table).values(expires_at=1)
    await database.write(lambda session: session.write(lambda connection: connection.execute(changed)))
    assert await expiry.remove(NOW) == 1


async def test_a_row_that_is_locked_goes_the_next_time(
    postgresql_url: str, responses: ResponseStore, make_response: MakeResponse, database: Database, writer: Writer
) -> None:
    if not database.locks_rows:
        return
    await responses.save(make_response("one", expires_at=NOW))
    await responses.save(make_response("two", expires_at=NOW))
    expiry = ResponseExpiry(database, writer)
    async with locked(postgresql_url, "SELECT * FROM responses WHERE id = 'resp_one' FOR UPDATE"):
        assert await expiry.remove(NOW) == 1
    assert await expiry.remove(NOW) == 1


async def test_deleting_the_last_heir_takes_what_was_kept_for_it(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    long_ago = NOW - GRACE_SECONDS
    kept = await grow(responses, make_response, "a", "b", expires_at=long_ago)
    for heir in ("c", "d"):
        await responses.save(make_response(heir, kept.key))
    assert await responses.delete("proj_a", "resp_c", NOW)
    assert len((await chain_of(responses, "d")).turns) == 3
    assert await responses.delete("proj_a", "resp_d", NOW)
    assert await count_responses(database) == (0, 0)


async def test_what_a_call_continues_is_extended_and_what_has_time_is_not_written(
    database: Database, responses: ResponseStore, expiry: ResponseExpiry, make_response: MakeResponse
) -> None:
    now = await database.tell_time()
    for name, expires_at in (("ending", now - 1), ("lasting", now + 5000), ("free", now - 1)):
        await responses.save(make_response(name, expires_at=expires_at))
    keys = [(await chain_of(responses, name, now - 2)).key for name in ("ending", "lasting")]
    await responses.keep([key for key in keys if key], least=60, seconds=120)
    assert await expiry.remove(now) == 1
    query = select(responses_table.c.expires_at).order_by(responses_table.c.key)
    ending, lasting = await database.read(lambda connection: connection.scalars(query).all())
    assert 110 < ending - now < 150
    assert lasting == now + 5000


async def test_no_plan_reads_the_turns_that_live(postgresql_url: str) -> None:
    """On 50,000 rows of which PostgreSQL has no statistics."""
    database = Database(postgresql_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    turns = f"""
        INSERT INTO responses (project_id, id, parent_key, api_key_id, status, model, account, created_at, expires_at,
            outline, content, body)
        SELECT 'p', 'r' || i, CASE WHEN i % 50 = 1 THEN NULL ELSE i - 1 END, 'k', 'completed', 'm', 'a', 0,
            CASE WHEN i % 50 = 0 THEN {NOW + 99} ELSE {NOW - 1} END, '', '', ''
        FROM generate_series(1, 50000) AS i
    """  # noqa: S608 - numbers of our own

    def insert(connection: Connection) -> None:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', 0)"))
        connection.execute(text(turns))

    await database.write(lambda session: session.write(insert))
    given = {"at": NOW - 1, "before": 25_000, "seen": -1, "now": NOW, "keys": [49_999, 50_000]}
    (look,) = response_expiry._LOOKS["postgresql"]
    looked = await database.read(partial(explain, look.params(**given), by_index=True))
    assert "Index Only Scan Backward using ix_responses_expires_at_key" in looked
    assert "Sort" not in looked
    for plan in (looked, await database.read(partial(explain, response_expiry._FREE.params(**given)))):
        assert "Index Only Scan using ix_responses_parent_key" in plan, plan
        assert "Seq Scan" not in plan, plan
    # What the reader was told of plans was for this alone.
    assert await database.read(lambda connection: connection.scalar(text("SHOW enable_sort"))) == "on"
    await database.aclose()


def explain(statement: Select[Any], connection: Connection, *, by_index: bool = False) -> str:
    if by_index:
        read_by_index(connection)
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {compiled}").scalars())
