"""Runs: who has one, for how long, what it has said, and that it ends once."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from app.errors import StorageError
from app.state.records import Project
from app.state.runs import Page
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore, SaveResponse
from app.storage.runs.store import RunStore
from app.storage.tables import run_events
from app.storage.tables import runs as table
from tests.fakes.ordered_runs import LEASE, change, claim, create, order
from tests.storage.conftest import NOW, MakeResponse, Replica


async def test_whoever_takes_a_run_over_knows_what_it_was_granted(runs: RunStore, database: Database) -> None:
    granted = replace(order(), drawn=b"[7,[]]")
    await runs.create(granted, b"{}", None, owner=None, lease_seconds=LEASE, most=9)
    (taken,) = await claim(runs)
    assert taken.request == granted
    await change(database, drawn=None, lease_until=0)
    (of_an_older_release,) = await claim(runs)
    assert of_an_older_release.request.drawn is None


async def test_a_run_is_found_by_its_project_alone(runs: RunStore) -> None:
    run = await create(runs)
    found = await runs.find("proj_a", "resp_one")
    assert found is not None
    assert (found.key, found.status, found.is_streamed, found.body) == (run.key, "queued", True, b'{"status":"queued"}')
    assert await runs.find("proj_b", "resp_one") is None
    assert await runs.find("proj_a", "resp_two") is None


async def test_replicas_that_take_orders_at_once_grant_no_more_than_one_would(
    runs: RunStore, database_url: str, project: Project
) -> None:
    replicas = [Replica(database_url) for _ in range(3)]
    stores = [runs, *(RunStore(one.database, one.writer) for one in replicas)]
    try:
        for most in (1, 2, 5):
            made = await asyncio.gather(
                *[
                    store.create(
                        order(f"{most}_{number}_{place}"), b"{}", None, owner=None, lease_seconds=LEASE, most=most
                    )
                    for place, store in enumerate(stores)
                    for number in range(3)
                ]
            )
            # Those of the rounds before are unfinished, too.
            assert sum(run is not None for run in made) == most - {1: 0, 2: 1, 5: 2}[most]
    finally:
        for one in replicas:
            await one.aclose()


async def test_a_project_has_so_many_unfinished_runs_and_no_more(runs: RunStore) -> None:
    for name in "abc":
        assert await runs.create(order(name), b"{}", None, owner=None, lease_seconds=LEASE, most=3)
    assert await runs.create(order("d"), b"{}", None, owner=None, lease_seconds=LEASE, most=3) is None
    assert await runs.find("proj_a", "resp_d") is None
    theirs = order("e", project_id="proj_b")
    assert await runs.create(theirs, b"{}", None, owner=None, lease_seconds=LEASE, most=3)
    (first, *_) = await claim(runs)
    assert await runs.end(first, "failed", b"{}", keep_seconds=60, turn=None)
    assert await runs.create(order("d"), b"{}", None, owner=None, lease_seconds=LEASE, most=3)


async def test_a_run_without_owner_is_claimed_once_oldest_first(runs: RunStore) -> None:
    for name in "abc":
        await create(runs, name, owner=None)
    some, others = await asyncio.gather(claim(runs, "x", 2), claim(runs, "y", 2))
    both = [run.request.id for run in (*some, *others)]
    assert sorted(both) == ["resp_a", "resp_b", "resp_c"]
    assert all(ids == sorted(ids) for ids in ([run.request.id for run in one] for one in (some, others)))
    assert await claim(runs) == []
    (run,) = [one for one in (*some, *others) if one.request.id == "resp_a"]
    assert (run.epoch, run.status, run.request, run.body) == (2, "queued", order("a"), b'{"status":"queued"}')


async def test_a_living_owner_keeps_its_run_and_a_dead_one_does_not(runs: RunStore, database: Database) -> None:
    run = await create(runs)
    assert await claim(runs) == []
    await change(database, lease_until=0)
    await runs.renew("me", [run.key], LEASE)
    assert await claim(runs) == []
    await change(database, lease_until=0)
    (taken,) = await claim(runs)
    await runs.renew("me", [run.key], LEASE)
    (sighting,) = await runs.watch("other")
    assert (sighting.key, sighting.epoch, sighting.is_own) == (run.key, taken.epoch, True)
    assert await runs.watch("me") == []


async def test_a_process_that_is_alone_ends_the_leases_of_those_before_it(runs: RunStore) -> None:
    mine, theirs = await create(runs, "mine"), await create(runs, "theirs", owner="before")
    rests = await create(runs, "rests")
    assert await runs.put_back(rests, 600)
    await runs.end_other_leases("me")
    assert [run.key for run in await claim(runs, "me")] == [theirs.key]
    assert {one.key for one in await runs.watch("me") if one.is_own} == {mine.key, theirs.key}


async def test_whoever_lost_a_run_can_write_nothing_to_it(
    runs: RunStore, database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    late = await create(runs)
    assert await runs.start(late, b'{"status":"in_progress"}')
    await change(database, lease_until=0)
    (taken,) = await claim(runs)
    assert taken.status == "in_progress"
    assert not await runs.start(late, b"late")
    assert not await runs.put_back(late, 0)
    assert not await runs.append(late, Page(2, 2, b"late\n\n"))
    stored = SaveResponse.of(make_response("one"))
    assert not await runs.end(late, "completed", b"late", keep_seconds=60, turn=stored)
    assert await responses.read_body("proj_a", "resp_one", NOW) is None
    found = await runs.find("proj_a", "resp_one")
    assert found is not None
    assert found.body == b'{"status":"in_progress"}'
    assert await runs.append(taken, Page(2, 2, b"c\n\n"))


async def test_an_end_is_the_run_and_its_response_in_one(
    runs: RunStore, responses: ResponseStore, make_response: MakeResponse, database: Database
) -> None:
    run = await create(runs)
    stored = SaveResponse.of(make_response("one", body=b"kept"))
    assert await runs.end(run, "completed", b"done", keep_seconds=60, turn=stored)
    assert await responses.read_body("proj_a", "resp_one", NOW) == b"kept"
    # Again, after a commit of which nobody heard, and with another outcome: the first one stays.
    assert await runs.end(run, "failed", b"again", keep_seconds=60, turn=stored)
    found = await runs.find("proj_a", "resp_one")
    assert found is not None
    assert (found.status, found.body) == ("completed", b"done")
    row = await database.read(lambda connection: connection.execute(select(table.c.request, table.c.owner)).one())
    assert tuple(row) == (None, None)
    await change(database, lease_until=0)
    assert await claim(runs) == []
    assert await runs.watch("me") == []


async def test_an_end_that_cannot_store_its_response_is_none(
    runs: RunStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    run = await create(runs)
    await responses.save(make_response("one"))
    with pytest.raises(StorageError):
        await runs.end(run, "completed", b"done", keep_seconds=60, turn=SaveResponse.of(make_response("one")))
    found = await runs.find("proj_a", "resp_one")
    assert found is not None
    assert found.status == "queued"


async def test_a_run_that_is_put_back_rests_and_is_then_anybodys(runs: RunStore, database: Database) -> None:
    run = await create(runs)
    assert await runs.start(run, b'{"status":"in_progress"}')
    assert await runs.put_back(run, 60)
    found = await runs.find("proj_a", "resp_one")
    assert found is not None
    assert (found.status, found.body) == ("queued", b'{"status":"queued"}')
    assert await claim(runs) == []
    await change(database, lease_until=0)
    assert [again.epoch for again in await claim(runs)] == [3]


async def test_a_run_that_was_begun_is_cancelled_by_its_owner_while_that_lives(runs: RunStore) -> None:
    begun = await create(runs)
    assert await runs.start(begun, b"{}")
    await runs.request_cancel(begun.key)
    (seen,) = await runs.watch("me")
    assert (seen.is_own, seen.epoch, seen.cancel_requested) == (True, begun.epoch, True)
    assert await claim(runs, most=0) == []
    # Who does not say that it lives has it for a moment more, and not for the rest of its lease.
    async with asyncio.timeout(LEASE / 2):
        while not (claimed := await claim(runs, most=0)):
            await asyncio.sleep(0.1)
    (taken,) = claimed
    assert (taken.status, taken.cancel_requested, taken.only_ends) == ("in_progress", True, True)
    assert not await runs.end(begun, "cancelled", b"{}", keep_seconds=60, turn=None)


@pytest.mark.parametrize("is_owned", [True, False])
async def test_a_queued_run_that_is_cancelled_is_anybodys_to_end_and_nobodys_to_begin(
    runs: RunStore, is_owned: bool
) -> None:
    run = await create(runs)
    if not is_owned:
        assert await runs.put_back(run, 600)
    await runs.request_cancel(run.key)
    assert not await runs.start(run, b"{}")
    assert not await runs.put_back(run, 600)
    # One that only ends needs no room.
    (taken,) = await claim(runs, most=0)
    assert (taken.key, taken.status, taken.cancel_requested) == (run.key, "queued", True)
    # Who cancels again takes it from nobody.
    await runs.request_cancel(run.key)
    assert await runs.end(taken, "cancelled", b"{}", keep_seconds=60, turn=None)


async def test_the_order_of_a_run_is_read_until_it_has_ended(runs: RunStore) -> None:
    run = await create(runs)
    found = await runs.read_request("proj_a", "resp_one")
    assert found is not None
    assert (found.id, found.body) == ("resp_one", run.request.body)
    assert await runs.read_request("proj_b", "resp_one") is None
    assert await runs.end(run, "failed", b"{}", keep_seconds=60, turn=None)
    assert await runs.read_request("proj_a", "resp_one") is None


async def test_a_log_is_read_from_any_event_on_page_by_page(runs: RunStore) -> None:
    run = await create(runs)
    for number in range(2, 42):
        assert await runs.append(run, Page(number, number, b"%d\n\n" % number))
        # Again, after a commit of which nobody heard.
        assert await runs.append(run, Page(number, number, b"%d\n\n" % number))
    numbers, after, reads = [], -1, 0
    while True:
        view = await runs.read_log(run.key, after)
        assert view is not None
        assert view.terminal_body is None
        assert view.last == 41
        numbers += [page.first for page in view.pages]
        after = view.pages[-1].last
        reads += 1
        if view.is_whole:
            break
    assert numbers == [0, *range(2, 42)]
    assert reads == 3
    assert await runs.end(run, "failed", b"done", keep_seconds=60, turn=None)
    rest = await runs.read_log(run.key, 40)
    assert rest is not None
    assert ([page.first for page in rest.pages], rest.is_whole, rest.terminal_body) == ([41], True, ("failed", b"done"))
    assert await runs.read_log(run.key + 1, -1) is None


async def test_only_a_run_that_has_ended_is_deleted_and_its_log_with_it(runs: RunStore, database: Database) -> None:
    run = await create(runs)
    assert not await runs.delete("proj_a", "resp_one")
    assert await runs.end(run, "failed", b"done", keep_seconds=60, turn=None)
    assert not await runs.delete("proj_b", "resp_one")
    assert await runs.delete("proj_a", "resp_one")
    assert not await runs.delete("proj_a", "resp_one")
    assert await runs.read_log(run.key, -1) is None
    assert await database.read(lambda connection: connection.execute(select(run_events)).all()) == []


async def test_a_run_is_kept_for_its_time_and_then_leaves_no_trace(runs: RunStore, database: Database) -> None:
    living, over = await create(runs, "living"), await create(runs, "over")
    queued = await create(runs, "queued")
    assert await runs.end(living, "completed", b"done", keep_seconds=60, turn=None)
    assert await runs.end(over, "completed", b"done", keep_seconds=0, turn=None)
    assert await runs.find("proj_a", "resp_over") is None
    assert await runs.read_log(over.key, -1) is None
    assert await runs.purge_expired() == 1
    assert await runs.purge_expired() == 0
    left = await database.read(lambda connection: connection.scalars(text("SELECT key FROM runs ORDER BY key")).all())
    assert list(left) == [living.key, queued.key]


async def test_a_run_that_is_put_back_is_not_started_by_what_its_owner_wrote_before(runs: RunStore) -> None:
    run = await create(runs)
    assert await runs.start(run, b'{"status":"in_progress"}')
    assert await runs.put_back(run, 0)
    # As where the rows of the first write were locked for longer than those of the second.
    assert not await runs.start(run, b'{"status":"in_progress"}')
    assert not await runs.put_back(run, 0)
    (claimed,) = await claim(runs)
    assert (claimed.status, claimed.epoch > run.epoch) == ("queued", True)
