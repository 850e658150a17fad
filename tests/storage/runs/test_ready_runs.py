"""Which waiting runs can begin: the first of each project for which nothing is in the way."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from app.state.runs import Page, Run
from app.storage.conversations.locks import ConversationLockStore
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.runs.store import RunStore
from app.storage.writer.writer import Writer
from tests.fakes.ordered_runs import DAY, LEASE, change, order


async def queue(runs: RunStore, name: str, owner: str | None = None, **options: Any) -> Run:
    run = await runs.create(order(name, **options), b"{}", None, owner=owner, lease_seconds=LEASE, most=99)
    assert run is not None
    return run


async def first(runs: RunStore, resting: Collection[str] = (), wait_seconds: int = DAY) -> dict[str, tuple[int, int]]:
    """What can begin, by project: its key, and how many of the project are worked on."""
    return {one.project_id: (one.key, one.running) for one in await runs.waiting(resting, wait_seconds)}


async def test_the_first_of_each_project_is_seen_and_how_many_are_worked_on(runs: RunStore, database: Database) -> None:
    assert await first(runs) == {}
    await queue(runs, "mine", owner="me")
    await queue(runs, "theirs", owner="them")
    ended = await queue(runs, "ended", owner="me")
    assert await runs.end(ended, "failed", b"{}", keep_seconds=60, turn=None)
    oldest = await queue(runs, "oldest")
    await queue(runs, "next")
    other = await queue(runs, "other", project_id="proj_b")
    assert await first(runs) == {"proj_a": (oldest.key, 2), "proj_b": (other.key, 0)}
    assert [one.project_id for one in await runs.waiting((), DAY, left_out={"proj_a"})] == ["proj_b"]
    # Once their leases are over nobody works on them, and they are claimed anew.
    await change(database, lease_until=0)
    assert {project_id: running for project_id, (_, running) in (await first(runs)).items()} == {
        "proj_a": 0,
        "proj_b": 0,
    }


async def test_what_pauses_or_is_being_cancelled_lets_the_next_of_its_project_begin(runs: RunStore) -> None:
    paused, cancelled, following = [await queue(runs, name, owner=name) for name in ("paused", "cancelled", "third")]
    assert await runs.put_back(paused, 600)
    assert await runs.put_back(cancelled, 0)
    assert await runs.put_back(following, 0)
    await runs.request_cancel(cancelled.key)
    assert await first(runs) == {"proj_a": (following.key, 0)}


@pytest.mark.parametrize("state", ["queued", "paused", "in progress"])
async def test_an_earlier_turn_is_not_overtaken_in_its_conversation(
    runs: RunStore, conversations: ConversationStore, state: str
) -> None:
    earlier = await queue(runs, "earlier", owner="me", conversation_id="conv_1")
    later = await queue(runs, "later", conversation_id="conv_1")
    elsewhere = await queue(runs, "elsewhere", conversation_id="conv_2")
    theirs = await queue(runs, "theirs", project_id="proj_b", conversation_id="conv_1")
    match state:
        case "in progress":
            assert await runs.start(earlier, b"{}")
        case "paused":
            assert await runs.put_back(earlier, 600)
            # Which ended its epoch.
            earlier = replace(earlier, epoch=earlier.epoch + 1)
    assert {key for key, _ in (await first(runs)).values()} == {elsewhere.key, theirs.key}
    assert len(await runs.claim("me", LEASE, [elsewhere.key])) == 1
    assert {key for key, _ in (await first(runs)).values()} == {theirs.key}
    assert await runs.end(earlier, "completed", b"{}", keep_seconds=60, turn=None)
    assert {key for key, _ in (await first(runs)).values()} == {later.key, theirs.key}


async def test_a_run_begins_when_nobody_else_holds_its_conversation(
    runs: RunStore, conversations: ConversationStore, database: Database, writer: Writer
) -> None:
    holds = ConversationLockStore(database, writer)
    run = await queue(runs, "one", conversation_id="conv_1")
    assert await first(runs) == {"proj_a": (run.key, 0)}
    hold = await holds.acquire("proj_a", "conv_1", "call", LEASE)
    assert await first(runs) == {}
    # It is to be ended, as it has waited for long enough.
    assert await first(runs, wait_seconds=0) == {"proj_a": (run.key, 0)}
    await holds.release(hold)
    assert await first(runs) == {"proj_a": (run.key, 0)}
    await holds.acquire("proj_a", "conv_1", run.request.id, LEASE)
    assert await first(runs) == {"proj_a": (run.key, 0)}
    # It fails then, and has to be begun for that.
    await conversations.delete("proj_a", "conv_1")
    assert await first(runs) == {"proj_a": (run.key, 0)}


async def test_a_model_that_rests_holds_up_its_own_runs_alone(runs: RunStore) -> None:
    rests = await queue(runs, "rests", model="resting")
    other = await queue(runs, "other", model="other")
    assert await first(runs) == {"proj_a": (rests.key, 0)}
    assert await first(runs, ["resting"]) == {"proj_a": (other.key, 0)}
    assert await first(runs, ["resting", "other"]) == {}
    assert await first(runs, ["resting", "other"], wait_seconds=0) == {"proj_a": (rests.key, 0)}
    # What an older release ordered says neither.
    old = await queue(runs, "old", model=None)
    assert await first(runs, ["resting", "other"]) == {"proj_a": (old.key, 0)}


async def test_a_claimed_run_is_read_with_all_that_was_ordered(runs: RunStore) -> None:
    made = await queue(runs, "one", conversation_id="conv_1")
    (run,) = await runs.claim("me", LEASE, [made.key])
    assert (run.epoch, run.request) == (2, order("one", conversation_id="conv_1"))
    assert await runs.claim("other", LEASE, [made.key]) == []


async def test_what_listeners_missed_is_seen_of_many_runs_at_once(runs: RunStore) -> None:
    silent, said, ended, gone = [await queue(runs, name, owner="me") for name in ("silent", "said", "ended", "gone")]
    assert await runs.append(silent, Page(0, 4, b"a"))
    assert await runs.append(said, Page(0, 4, b"a"))
    assert await runs.append(said, Page(5, 5, b"a"))
    assert await runs.end(ended, "failed", b"{}", keep_seconds=60, turn=None)
    assert await runs.end(gone, "failed", b"{}", keep_seconds=60, turn=None)
    assert await runs.delete("proj_a", "resp_gone")
    unheard = await queue(runs, "unheard")
    seen = {silent.key: 4, said.key: 4, ended.key: 4, gone.key: 4, unheard.key: -1}
    assert await runs.have_more(seen) == {said.key, ended.key, gone.key}
