from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.state.items.item_pages import DEFAULT_LIMIT, PageQuery, input_of, page
from app.state.records import Item
from tests.builders import make_chain, make_item, make_turn, says, thinks, user

_ITEMS = tuple(make_item(user(f"{number}", f"msg_{number}")) for number in range(5))


def shown(items: tuple[Item, ...] = _ITEMS, **query: Any) -> tuple[str, bool]:
    """The numbers on the page, in order, and whether there is more."""
    read = orjson.loads(page(items, PageQuery(**query)))
    ids = [item["id"] for item in read["data"]]
    assert read["object"] == "list"
    assert (read["first_id"], read["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return "".join(item_id.removeprefix("msg_") for item_id in ids), read["has_more"]


@pytest.mark.parametrize(
    ("query", "numbers", "more"),
    [
        ({}, "43210", False),
        ({"ascending": True}, "01234", False),
        ({"limit": 2}, "43", True),
        ({"limit": 5}, "43210", False),
        ({"limit": 4}, "4321", True),
        ({"limit": 1, "ascending": True}, "0", True),
        ({"after": "msg_3"}, "210", False),
        ({"after": "msg_3", "limit": 2}, "21", True),
        ({"after": "msg_3", "ascending": True}, "4", False),
        ({"after": "msg_0"}, "", False),
        ({"before": "msg_1"}, "432", False),
        ({"before": "msg_1", "ascending": True}, "0", False),
        ({"before": "msg_0", "ascending": True}, "", False),
        ({"before": "msg_3", "limit": 2, "ascending": True}, "12", True),
        ({"after": "msg_4", "before": "msg_1"}, "32", False),
        ({"after": "msg_1", "before": "msg_4"}, "", False),
        ({"after": "msg_2", "before": "msg_2"}, "", False),
    ],
)
def test_a_page_is_what_stands_between_its_cursors(query: dict[str, Any], numbers: str, more: bool) -> None:
    assert shown(**query) == (numbers, more)


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_one_after_the_other_are_the_whole_list(ascending: bool, limit: int) -> None:
    read = ""
    more = True
    while more:
        after = f"msg_{read[-1]}" if read else None
        numbers, more = shown(ascending=ascending, limit=limit, after=after)
        assert numbers
        read += numbers
    assert read == ("01234" if ascending else "43210")


def test_an_empty_list_is_a_page() -> None:
    assert shown(()) == ("", False)


def test_a_page_has_twenty_items_unless_it_is_told_otherwise() -> None:
    many = tuple(make_item(user(f"{number}", f"msg_{number:02}")) for number in range(30))
    assert DEFAULT_LIMIT == 20
    assert len(orjson.loads(page(many, PageQuery()))["data"]) == 20


@pytest.mark.parametrize("name", ["after", "before"])
def test_an_unknown_cursor_is_refused_by_name_and_not_quoted_at_length(name: str) -> None:
    query: dict[str, Any] = {name: "msg_" + "9" * 1000}
    with pytest.raises(InvalidRequestError) as caught:
        page(_ITEMS, PageQuery(**query))
    assert (caught.value.status, caught.value.param) == (400, name)
    assert f"'{name}'" in caught.value.message
    assert len(caught.value.message) < 200


def test_the_input_of_a_response_is_all_before_its_own_output() -> None:
    first = make_turn([user("1", "msg_1")], [says("2", "msg_2")])
    second = make_turn([user("3", "msg_3")], [says("4", "msg_4")])
    assert [item.id for item in input_of(make_chain(first))] == ["msg_1"]
    assert [item.id for item in input_of(make_chain(first, second))] == ["msg_1", "msg_2", "msg_3"]


def test_an_item_that_was_sent_again_is_listed_once() -> None:
    first = make_turn([user("1", "msg_1")], [says("2", "msg_2")])
    second = make_turn([user("1", "msg_1"), says("2", "msg_2"), user("3", "msg_3")], [says("4", "msg_4")])
    assert [item.id for item in input_of(make_chain(first, second))] == ["msg_1", "msg_2", "msg_3"]


def test_items_of_one_id_are_listed_apart_and_a_failed_turn_is_not() -> None:
    one, two = (thinks("rs_x", encrypted_content=text) for text in "12")
    first = make_turn([user("1", "msg_1")], [one, says("2", "rs_x_2"), two, says("3", "msg_1")])
    failed = make_turn([user("poison", "msg_8")], [], status="failed")
    chain = make_chain(first, failed, make_turn([user("4", "msg_9"), user("1", "msg_1")], []))
    items = input_of(chain)
    assert [item.id for item in items] == ["msg_1", "rs_x", "rs_x_2", "rs_x_3", "msg_1_2", "msg_9"]
    assert [item.content for item in items[1:5]] == [item.content for item in first.items[1:5]]
    # Each is a cursor, on every page.
    assert orjson.loads(page(items, PageQuery(after="rs_x_3", ascending=True, limit=1)))["first_id"] == "msg_1_2"


@pytest.mark.parametrize(
    ("query", "numbers", "more"),
    [
        ({}, "43", True),
        ({"ascending": True}, "01", True),
        ({"ascending": True, "after": "msg_1"}, "23", True),
        ({"ascending": True, "after": "msg_3"}, "4", False),
        # The page that ends at its cursor.
        ({"ascending": True, "before": "msg_4"}, "23", True),
    ],
)
def test_a_page_of_large_items_is_shorter(query: dict[str, Any], numbers: str, more: bool) -> None:
    text = "x" * 7_000_000
    items = tuple(make_item(user(text, f"msg_{number}")) for number in range(5))
    assert shown(items, **query) == (numbers, more)


def test_one_item_is_shown_however_large() -> None:
    items = tuple(make_item(user("x" * size, f"msg_{number}")) for number, size in enumerate((1, 20_000_000)))
    assert shown(items) == ("1", True)
    assert shown(items, after="msg_1") == ("0", False)
