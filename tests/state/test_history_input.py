"""Which items of a chain go upstream again: the rules of replay one by one, and together on generated chains."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.state.items.call_pairs import run_by_server
from app.state.items.compacted import SEAL
from app.state.items.history_input import replay
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, Turn
from app.wire.json_body import elements
from tests.builders import ACCOUNT, OTHER, answers, calls, make_item, make_turn, says, thinks, user
from tests.state.replayed import replayed, sent, shown

_COMPACTION = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}


def looked_at(turn: Turn) -> Turn:
    """The same turn, of which nothing is known before each item is looked at."""
    return Turn(replace(turn.outline, reader=NO_ACCOUNT), turn.content)


def test_a_chain_goes_oldest_first_input_before_output_and_then_the_new_input() -> None:
    turns = [make_turn([user("1")], [says("2")]), make_turn([user("3"), user("4")], [thinks(), says("5")])]
    assert sent(turns, user("6")) == ["1", "2", "3", "4", "reasoning", "5", "6"]
    assert sent([], user("1")) == ["1"]


def test_items_go_as_they_are_kept() -> None:
    turn = make_turn([user("1")], [says("2")])
    assert replayed([turn], []) == [item.content for item in turn.items]


def test_what_another_account_encrypted_or_owns_stays_behind() -> None:
    said = [thinks(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, says("2")]
    turn = make_turn([user("1")], said)
    assert sent([turn], user("3")) == ["1", "reasoning", "web_search_call", "2", "3"]
    assert sent([turn], user("3"), account=OTHER) == ["1", "2", "3"]


def test_what_was_sealed_goes_to_each_account_that_reads_it_and_leaves_no_gap() -> None:
    sealed = thinks(encrypted_content=f"{SEAL}abc")
    turns = [
        make_turn(
            [user("1"), thinks("rs_0", encrypted_content=f"{SEAL}x"), says("0")],
            [sealed, says("2")],
            account="chat/one",
        )
    ]
    for reads, count in (
        ({None, "chat/two", "chat/", "/"}, 2),
        ({None, "other/one", "other/", "/"}, 1),
        ({None, "native/one"}, 0),
    ):
        whole = b",".join(replay(turns, [], reads, bytes))
        assert whole.count(SEAL.encode()) == count
        assert [shown(part) for part in elements(b"[%b]" % whole) if b"reasoning" not in part] == ["1", "0", "2"]


def test_a_thought_that_nobody_can_read_again_stays_behind() -> None:
    turn = make_turn([user("1")], [thinks(encrypted_content=None), says("2")])
    assert sent([turn]) == ["1", "2"]


def test_text_of_an_unfinished_message_is_context_and_an_unfinished_call_is_not() -> None:
    said = [says("par", status="incomplete"), thinks(status="incomplete"), calls(status="incomplete")]
    assert sent([make_turn([user("1")], said, status="incomplete")], user("2")) == ["1", "par", "2"]


def test_a_thought_goes_only_with_what_it_led_to() -> None:
    turn = make_turn([user("1")], [thinks("rs_1"), thinks("rs_2"), calls()], status="incomplete")
    assert sent([turn], user("2")) == ["1", "2"]
    turn = make_turn([user("1")], [thinks("rs_1"), says("2"), thinks("rs_2")], status="incomplete")
    assert sent([turn], user("3")) == ["1", "reasoning", "2", "3"]
    assert sent([turn]) == ["1", "reasoning", "2"]


def test_a_thought_that_the_client_sent_is_the_clients_own() -> None:
    assert sent([make_turn([user("1"), thinks("rs_1")], [says("2")])], thinks("rs_2")) == [
        "1",
        "reasoning",
        "2",
        "reasoning",
    ]


def test_a_failed_turn_is_skipped_with_its_input() -> None:
    turns = [
        make_turn([user("1")], [says("2")]),
        make_turn([user("poison")], [says("half")], status="failed"),
        make_turn([user("3")], [says("4")], status="incomplete"),
    ]
    assert sent(turns, user("5")) == ["1", "2", "3", "4", "5"]
    assert sent(turns[:2], user("5")) == ["1", "2", "5"]


def test_a_compaction_stands_for_all_before_it_where_it_can_be_read() -> None:
    turns = [make_turn([user("1")], [says("2")]), make_turn([user("3")], [_COMPACTION, says("4")])]
    assert sent(turns, user("5")) == ["compaction", "4", "5"]
    assert sent(turns, user("5"), account=OTHER) == ["1", "2", "3", "4", "5"]


def test_of_several_compactions_the_newest_readable_counts() -> None:
    second = {**_COMPACTION, "id": "cmp_2", "encrypted_content": "more"}
    mine = make_turn([user("1")], [_COMPACTION, says("2")])
    assert sent([mine, make_turn([user("3")], [second, says("4")])]) == ["compaction", "4"]
    theirs = make_turn([user("3")], [second, says("4")], account=OTHER)
    assert sent([mine, theirs]) == ["compaction", "2", "3", "4"]


def test_a_call_before_a_compaction_takes_its_output_with_it() -> None:
    turns = [make_turn([user("1")], [calls()]), make_turn([answers()], [_COMPACTION, says("2")])]
    assert sent([*turns, make_turn([answers()], [])], user("3")) == ["compaction", "2", "3"]


def test_a_compaction_that_a_client_sent_leaves_what_it_kept_beside_it() -> None:
    turn = make_turn([user("kept"), _COMPACTION, user("1")], [says("2")])
    assert sent([turn], user("3")) == ["kept", "compaction", "1", "2", "3"]


def test_an_item_that_stands_there_already_goes_once() -> None:
    turn = make_turn([user("1", "msg_a")], [says("2", "msg_b")])
    assert sent([turn], user("1", "msg_a"), says("2", "msg_b"), user("3")) == ["1", "2", "3"]


def test_equal_ids_alone_do_not_make_equal_items() -> None:
    turns = [make_turn([user("1", "msg_0")], [says("2")]), make_turn([user("3", "msg_0")], [says("4")])]
    assert sent(turns, user("5", "msg_0")) == ["1", "2", "3", "4", "5"]


def test_the_same_words_said_twice_go_twice() -> None:
    assert sent([make_turn([user("Yes.")], [says("2")])], user("Yes.")) == ["Yes.", "2", "Yes."]


def test_a_chain_of_a_thousand_turns_is_replayed_whole() -> None:
    # Looked at pair by pair, its 4,000 items would take minutes.
    turns = [make_turn([user(f"{turn}")], [calls(f"call_{turn}"), says("ok", f"m_{turn}")]) for turn in range(1000)]
    answered = [answers(f"call_{turn}") for turn in range(1000)]
    assert len(sent(turns, *answered)) == 4000


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Turn], list[dict[str, Any]]]:
    """Turns of any account and outcome; each item has an id and a content of its own, call ids repeat."""
    number = iter(range(1000))
    call_ids = st.sampled_from(("call_1", "call_2", "call_3"))

    def one(is_output: bool) -> dict[str, Any]:
        name = f"x_{next(number)}"
        status = draw(st.sampled_from(("completed", "completed", "incomplete")))
        kind = draw(st.sampled_from((0, 1, 2, 3, 4, 4, 4, 4)))
        if kind == 0:
            return thinks(name, status=status, encrypted_content=name)
        if kind == 1:
            return calls(draw(call_ids), name, status=status, arguments=name)
        if kind == 2:
            return {**answers(draw(call_ids)), "id": name, "output": name}
        if kind == 3 and is_output:
            return {"type": "web_search_call", "id": name, "status": status, "query": name}
        return says(name, name, status) if is_output else user(name, name)

    turns = [
        make_turn(
            [one(False) for _ in range(draw(st.integers(0, 3)))],
            [one(True) for _ in range(draw(st.integers(0, 4)))],
            status=draw(st.sampled_from(("completed", "completed", "incomplete", "failed", "cancelled"))),
            account=draw(st.sampled_from((ACCOUNT, OTHER))),
        )
        for _ in range(draw(st.integers(0, 5)))
    ]
    return turns, [one(False) for _ in range(draw(st.integers(0, 3)))]


@settings(max_examples=3 * settings().max_examples)
@given(chains())
def test_whatever_the_chain_what_is_sent_is_coherent_and_no_word_of_the_user_is_lost(
    drawn: tuple[list[Turn], list[dict[str, Any]]],
) -> None:
    turns, new = drawn
    items = [make_item(value) for value in new]
    history = [item for turn in turns if turn.status != "failed" for item in turn.items] + items
    contents = replayed(turns, items)

    # In order: what is sent is a subsequence of what there is.
    source = iter(history)
    chosen = [next(item for item in source if item.content == content) for content in contents]
    assert all(item.account in {None, ACCOUNT} for item in chosen)
    made = {item.call_id for item in chosen if item.type == "function_call"}
    answered = {item.call_id for item in chosen if item.type == "function_call_output"}
    run = set[str | None]().union(*[run_by_server(turn.status, turn.items) for turn in turns])
    assert {item.call_id for item in chosen if item.type == "function_call" and item.is_output} <= answered | run
    # Of what the client sent only outputs are left out whose calls nobody can be sent again.
    unmade = {item.call_id for item in history if item.type == "function_call" and item.account == NO_ACCOUNT}
    for item in history:
        if not item.is_output and item not in chosen:
            assert item.type == "function_call_output"
            assert item.call_id in unmade - made
    texts = [item.content for item in history if item.type == "message"]
    assert [item.content for item in chosen if item.type == "message"] == texts
    for place, item in enumerate(chosen):
        if item.type == "reasoning" and item.is_output:
            assert chosen[place + 1].is_output
    # Only what breaks a rule is left out: a second replay of what was sent leaves out nothing more.
    assert replayed([pack("completed", ACCOUNT, chosen)], []) == contents


@settings(max_examples=3 * settings().max_examples)
@given(chains(), st.sampled_from((ACCOUNT, OTHER)))
def test_a_turn_that_is_sent_as_it_stands_is_what_its_items_would_be_one_by_one(
    drawn: tuple[list[Turn], list[dict[str, Any]]], account: str
) -> None:
    turns, new = drawn
    items = [make_item(value) for value in new]
    assert replayed(turns, items, account) == replayed([looked_at(turn) for turn in turns], items, account)
