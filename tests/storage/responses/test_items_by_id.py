"""Items of responses that are asked for by their ids, on every database."""

import pytest
from msgspec.structs import replace

from app.ids import new_item_id
from app.state.records import Item
from app.storage.responses.store import ResponseStore
from tests.storage.conftest import NOW, MakeResponse


async def test_items_are_found_by_id_newest_first(responses: ResponseStore, make_response: MakeResponse) -> None:
    older = Item("msg_x", "message", is_output=True, content=b"older")
    newer = Item("msg_x", "message", is_output=False, content=b"newer", account="a", call_id="c")
    await responses.save(make_response("one", items=(older,)))
    await responses.save(make_response("two", items=(newer, Item("msg_y", "message", False, b"y"))))
    found = await responses.read_items("proj_a", ["msg_x", "msg_y", "msg_unknown"], NOW)
    assert found == {
        "msg_x": replace(newer, served_by="account-1"),
        "msg_y": Item("msg_y", "message", False, b"y", served_by="account-1"),
    }


async def test_of_equal_ids_in_one_turn_the_last_is_found_with_those_before_it(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    earlier, between, later = (
        Item(item_id, "message", False, content)
        for item_id, content in (("msg_x", b"earlier"), ("msg_y", b"between"), ("msg_x", b"later"))
    )
    await responses.save(make_response("one", items=(earlier, between, later)))
    found = (await responses.read_items("proj_a", ["msg_x"], NOW))["msg_x"]
    assert (found.content, [twin.content for twin in found.twins]) == (b"later", [b"earlier"])


async def test_any_number_of_item_ids_may_be_asked_for(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("one"))
    assert await responses.read_items("proj_a", [], NOW) == {}
    wanted = [*(f"msg_{number}" for number in range(2500)), "msg_one_out"]
    assert list(await responses.read_items("proj_a", wanted, NOW)) == ["msg_one_out"]


def test_ids_made_at_one_time_lie_together_in_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for second in (NOW, NOW + 1, NOW + 300):
        monkeypatch.setattr("time.time", lambda at=second: at + 0.5)
        made += sorted(new_item_id("message") for _ in range(20))
    assert made == sorted(made)
    assert {len(one) for one in made} == {len("msg_") + 48}
