"""What a connection remembers of its lanes, and what the store keeps of them."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from app.errors import StorageError
from app.relay.history.lane import Lanes
from app.runtime.byte_budget import ByteBudget, Reserve, reserve_nothing
from app.state.items.turn_packing import without
from app.state.records import Chain, Item, StoredResponse
from tests.builders import ACCOUNT, NOW, make_chain, make_item, make_turn, says, user

PROJECT = "proj_a"


class Store:
    """A store of these chains, by the id of their tip."""

    def __init__(self) -> None:
        self.chains: dict[str, Chain] = {}
        self.saved: list[StoredResponse] = []
        self.fails = False

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        return self.chains.get(response_id)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve
    ) -> dict[str, Item]:
        return {}

    async def save(self, response: StoredResponse) -> None:
        if self.fails:
            raise StorageError("No.")
        self.saved.append(response)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def lanes(store: Store) -> Lanes:
    return Lanes(store, 1_000_000, ByteBudget(1 << 30).reservation(PROJECT))


def settled(response_id: str, text: str, **members: Any) -> StoredResponse:
    items = (make_item(user(text)), make_item(says(f"Re: {text}"), is_output=True))
    made = StoredResponse(
        response_id, PROJECT, "key_1", None, "completed", "demo", ACCOUNT, NOW, NOW + 1, b"{}", None, items
    )
    return replace(made, **members)


async def turn(
    lanes: Lanes,
    response_id: str,
    *,
    lane: str | None = None,
    after: str | None = None,
    store: bool = False,
    **members: Any,
) -> Chain | None:
    """One turn on this lane, as a call makes it; returns the chain that it continued."""
    memory = lanes.history(lane, after, store=store)
    chain = None
    if after is not None:
        chain = await memory.read_chain(PROJECT, after, NOW, reserve_nothing)
        if chain is None:
            lanes.fail(lane, after)
            return None
    key = chain.key if chain else None
    await memory.save(settled(response_id, response_id, parent_key=key, **members))
    return chain


def texts(chain: Chain | None) -> list[str]:
    assert chain is not None
    return [turn.content.decode().partition('"content":"')[2].partition('"')[0] for turn in chain.turns]


async def test_turns_that_are_not_stored_are_a_chain_of_the_connections_own(lanes: Lanes, store: Store) -> None:
    await turn(lanes, "resp_1")
    await turn(lanes, "resp_2", after="resp_1")
    chain = await turn(lanes, "resp_3", after="resp_2")
    assert texts(chain) == ["resp_1", "resp_2"]
    assert chain is not None
    assert (chain.key, chain.is_stored) == (None, False)
    assert store.saved == []


async def test_stored_turns_before_them_are_read_anew_each_time(lanes: Lanes, store: Store) -> None:
    store.chains["resp_0"] = make_chain(make_turn([user("resp_0")], [says("Re")]))
    await turn(lanes, "resp_1", after="resp_0")
    chain = await turn(lanes, "resp_2", after="resp_1")
    assert texts(chain) == ["resp_0", "resp_1"]
    assert chain is not None
    assert (chain.key, chain.is_stored) == (1, False)
    # It was deleted meanwhile.
    del store.chains["resp_0"]
    assert await turn(lanes, "resp_3", after="resp_2") is None


async def test_a_stored_turn_takes_the_history_along_that_never_was(lanes: Lanes, store: Store) -> None:
    store.chains["resp_0"] = make_chain(make_turn([user("resp_0")], [says("Re")]))
    await turn(lanes, "resp_1", after="resp_0")
    await turn(lanes, "resp_2", after="resp_1", store=True)
    (saved,) = store.saved
    assert saved.parent_key == 1
    assert [item.is_output for item in saved.items] == [False, False, False, True]
    assert b"resp_1" in saved.items[0].content
    # From here on it is the store's.
    assert lanes.find("resp_1") is None
    assert lanes.find("resp_2") is None


async def test_a_compaction_in_that_history_still_stands_for_what_is_before_it(lanes: Lanes, store: Store) -> None:
    compaction = make_item({"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}, is_output=True)
    await turn(lanes, "resp_1", items=(compaction, make_item(says("Hi"), is_output=True)))
    await turn(lanes, "resp_2", after="resp_1", store=True)
    assert [item.is_output for item in store.saved[0].items] == [True, False, False, True]


async def test_a_compaction_of_stored_items_is_forgotten_when_one_of_them_is_deleted(
    lanes: Lanes, store: Store
) -> None:
    stored = make_turn([user("One"), user("Two")], [says("Re")])
    store.chains["resp_0"] = make_chain(stored)
    compaction = make_item({"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}, is_output=True)
    await turn(lanes, "resp_1", after="resp_0", items=(compaction, make_item(says("Hi"), is_output=True)))
    chain = await turn(lanes, "resp_2", after="resp_1")
    assert chain is not None
    assert chain.turns[1].outline.compactions == [0]
    # Its turn stands in a conversation, out of which one item was deleted.
    store.chains["resp_0"] = make_chain(without(stored, [1]))
    for latest in ("resp_2", "resp_3"):
        chain = await turn(lanes, "resp_3", after=latest)
        assert chain is not None
        assert [each.outline.compactions for each in chain.turns] == [[]] * len(chain.turns)
        assert b"Hi" in chain.turns[1].content


async def test_a_lane_knows_its_latest_response_only(lanes: Lanes) -> None:
    await turn(lanes, "resp_1", lane="a")
    await turn(lanes, "resp_2", lane="a")
    assert lanes.find("resp_1") is None
    assert await turn(lanes, "resp_3", lane="a", after="resp_1") is None
    assert lanes.find("resp_2") is not None


async def test_a_lane_may_fork_from_another_whose_latest_stays(lanes: Lanes) -> None:
    await turn(lanes, "resp_1", lane="a")
    assert texts(await turn(lanes, "resp_2", lane="b", after="resp_1")) == ["resp_1"]
    assert texts(await turn(lanes, "resp_3", lane="a", after="resp_1")) == ["resp_1"]


async def test_a_failing_turn_makes_its_own_lane_forget_and_no_other(lanes: Lanes, store: Store) -> None:
    for failing in ("status", "error", "store"):
        await turn(lanes, "resp_1", lane="a")
        lanes.fail("b", "resp_1")
        lanes.fail("a", "resp_0")
        assert lanes.find("resp_1") is not None
        if failing == "status":
            await turn(lanes, "resp_2", lane="a", after="resp_1", status="failed")
        elif failing == "error":
            lanes.fail("a", "resp_1")
        else:
            store.fails = True
            with pytest.raises(StorageError):
                await turn(lanes, "resp_2", lane="a", after="resp_1", store=True)
        assert lanes.find("resp_1") is None, failing
        assert lanes.find("resp_2") is None


async def test_a_failed_response_is_nobodys_latest(lanes: Lanes) -> None:
    await turn(lanes, "resp_1", status="failed")
    assert lanes.find("resp_1") is None


async def test_what_a_connection_remembers_is_bounded(store: Store) -> None:
    lanes = Lanes(store, 1_000, ByteBudget(1 << 30).reservation(PROJECT))
    for number in range(10):
        await turn(lanes, f"resp_{number}", lane=f"lane-{number}")
    kept = [latest for number in range(10) if (latest := lanes.find(f"resp_{number}"))]
    assert 0 < len(kept) < 10
    assert sum(latest.size for latest in kept) <= 1_000
    assert lanes.find("resp_9") is not None
    await turn(lanes, "resp_x", items=(make_item(user("x" * 4_000)),))
    assert lanes.find("resp_x") is None


async def test_a_large_lane_is_forgotten_before_any_that_takes_no_more_than_its_share(store: Store) -> None:
    lanes = Lanes(store, 4_000, ByteBudget(1 << 30).reservation(PROJECT))
    for number in range(5):
        await turn(lanes, f"resp_{number}", lane=f"lane-{number}")
    small = [lanes.find(f"resp_{number}") for number in range(5)]
    # It grows turn by turn, and is the last to be kept each time.
    after = None
    for number in range(6):
        response_id = f"resp_big_{number}"
        await turn(lanes, response_id, lane="big", after=after, items=(make_item(user("x" * 1_000)),))
        after = response_id if lanes.find(response_id) else None
    assert [lanes.find(f"resp_{number}") for number in range(5)] == small
    # Two that are too large together: the larger goes, whichever was kept first.
    await turn(lanes, "resp_large", lane="large", items=(make_item(user("x" * 2_500)),))
    assert lanes.find("resp_large") is not None
    assert all(lanes.find(f"resp_{number}") for number in range(5))


async def test_what_there_is_no_room_for_is_not_remembered(store: Store) -> None:
    budget = ByteBudget(100_000)
    with budget.reservation(PROJECT) as held, budget.reservation("proj_other") as other:
        lanes = Lanes(store, 1_000_000, held)
        large = (make_item(user("x" * 90_000)),)
        await turn(lanes, "resp_1", items=large)
        assert lanes.find("resp_1") is not None
        assert budget.held >= 90_000
        lanes.forget(None)
        assert budget.held == 0
        await other.add(70_000)
        await turn(lanes, "resp_2", items=large)
        assert lanes.find("resp_2") is None
        await turn(lanes, "resp_3")
        assert lanes.find("resp_3") is not None
