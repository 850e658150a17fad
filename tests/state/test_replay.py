"""Which items of a chain go upstream again: the rules of replay one by one, and together on generated chains."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.errors import InvalidRequestError
from app.state.packing import pack
from app.state.pairs import run_by_server
from app.state.records import NO_ACCOUNT, Item, Turn
from app.state.replay import check_calls, replay, settled
from app.wire.body import elements, join_array
from tests.builders import ACCOUNT, OTHER, answers, calls, make_chain, make_item, make_turn, says, thinks, user

_PAIRS = (
    "function_call",
    "custom_tool_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "tool_search_call",
    "brand_new_call",
)
_COMPACTION = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}


def sent(turns: list[Turn], *given: dict[str, Any], account: str = ACCOUNT) -> list[str]:
    """What is sent, each item by its text, its call id or its type."""
    return [shown(content) for content in replayed(turns, [make_item(value) for value in given], account)]


def replayed(turns: list[Turn], items: Sequence[Item], account: str = ACCOUNT) -> list[bytes]:
    """What is sent, item by item."""
    return elements(join_array(replay(turns, items, account, bytes)))


def looked_at(turn: Turn) -> Turn:
    """The same turn, of which nothing is known before each item is looked at."""
    return Turn(replace(turn.outline, reader=NO_ACCOUNT), turn.content)


def shown(content: bytes) -> str:
    item = orjson.loads(content)
    text = item.get("content")
    if item["type"] == "message":
        return str(text if isinstance(text, str) else text[0]["text"])
    return f"{item['type']} {item['call_id']}" if "call_id" in item else str(item["type"])


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


def test_a_thought_that_nobody_can_read_again_stays_behind() -> None:
    turn = make_turn([user("1")], [thinks(encrypted_content=None), says("2")])
    assert sent([turn]) == ["1", "2"]


def test_text_of_an_unfinished_message_is_context_and_an_unfinished_call_is_not() -> None:
    said = [says("par", status="incomplete"), thinks(status="incomplete"), calls(status="incomplete")]
    assert sent([make_turn([user("1")], said, status="incomplete")], user("2")) == ["1", "par", "2"]


@pytest.mark.parametrize("kind", _PAIRS)
def test_a_call_goes_with_its_output_and_not_without(kind: str) -> None:
    call = {"type": kind, "id": "x_1", "call_id": "call_1", "status": "completed"}
    output = {"type": f"{kind}_output", "call_id": "call_1", "output": "1"}
    turn = make_turn([user("1")], [thinks(), call])
    assert sent([turn], output) == ["1", "reasoning", f"{kind} call_1", f"{kind}_output call_1"]
    assert sent([turn], user("2")) == ["1", "2"]


def test_an_output_of_another_type_answers_a_call_by_its_call_id() -> None:
    call = {"type": "tool_search_call", "id": "tsc_1", "call_id": "call_1", "execution": "client", "arguments": {}}
    turn = make_turn([user("1")], [call])
    for output in (answers(), {"type": "tool_search_output", "call_id": "call_1", "tools": []}):
        check_calls(make_chain(turn), [make_item(output)])
        assert sent([turn], output) == ["1", "tool_search_call call_1", f"{output['type']} call_1"]
        # In a client's own history too.
        history = make_turn([user("1"), {**call, "id": None}, output, user("2")], [says("3")])
        assert sent([history], user("4"))[1:3] == ["tool_search_call call_1", f"{output['type']} call_1"]


def test_a_call_that_is_in_progress_in_a_completed_response_waits_for_its_output() -> None:
    turn = make_turn([user("1")], [calls(status="in_progress")])
    assert refusal([turn], user("2")) == "No tool output found for function call call_1."
    check_calls(make_chain(turn), [make_item(answers())])
    assert sent([turn], answers()) == ["1", "function_call call_1", "function_call_output call_1"]


def test_an_output_for_a_call_that_was_not_made_to_the_end_is_refused() -> None:
    turn = make_turn([user("1")], [calls(status="in_progress")], status="incomplete")
    assert refusal([turn], answers()) == "No tool call found for function call output with call_id call_1."


def test_calls_that_the_server_ran_itself_need_no_output_and_stay() -> None:
    search = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "xs_1", "name": "x_search", "input": "q"}
    turn = make_turn([user("1")], [thinks(), search, says("2"), calls()])
    assert refusal([turn], user("3")) == "No tool output found for function call call_1."
    check_calls(make_chain(turn), [make_item(answers())])
    assert sent([turn], answers()) == [
        "1",
        "reasoning",
        "custom_tool_call xs_1",
        "2",
        "function_call call_1",
        "function_call_output call_1",
    ]
    # One that was cut off may have been about to wait for it.
    cut = make_turn([user("1")], [search, says("2", status="incomplete")], status="incomplete")
    assert sent([cut], user("3")) == ["1", "2", "3"]


def test_a_program_waits_for_the_calls_that_it_makes() -> None:
    program = {"type": "program", "id": "prog_1", "call_id": "p_1", "code": "f()", "fingerprint": "x"}
    turn = make_turn([user("1")], [program, calls(status="in_progress", caller={"type": "program", "id": "p_1"})])
    check_calls(make_chain(turn), [make_item(answers())])
    assert sent([turn], answers()) == ["1", "program p_1", "function_call call_1", "function_call_output call_1"]


def test_an_output_that_names_its_tool_in_place_of_a_call_is_nobodys_other_half() -> None:
    output = {"type": "function_call_output", "name": "f", "output": "42"}
    turn = make_turn([user("1")], [says("2")])
    check_calls(make_chain(turn), [make_item(output)])
    assert sent([turn], output) == ["1", "2", "function_call_output"]
    assert sent([make_turn([user("1"), output], [says("2")])], user("3")) == ["1", "function_call_output", "2", "3"]


def test_what_a_client_sent_and_upstream_took_goes_again_as_it_was() -> None:
    turn = make_turn([user("1"), calls("call_8"), answers("call_9")], [says("2")])
    assert sent([turn], user("3")) == ["1", "function_call call_8", "function_call_output call_9", "2", "3"]


def test_an_approval_stays_behind_with_its_request() -> None:
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "f", "server_label": "s"}
    approval = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    turn = make_turn([user("1")], [request])
    assert sent([turn], approval) == ["1", "mcp_approval_request", "mcp_approval_response"]
    assert sent([turn], approval, account=OTHER) == ["1"]


def test_a_local_shell_output_that_names_its_call_by_id_answers_it() -> None:
    call = {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "status": "completed", "action": {}}
    turn = make_turn([user("1")], [call])
    output = {"type": "local_shell_call_output", "id": "call_1", "output": "{}"}
    check_calls(make_chain(turn), [make_item(output)])
    assert sent([turn], output) == ["1", "local_shell_call call_1", "local_shell_call_output"]


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


def refusal(turns: list[Turn], *given: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        check_calls(make_chain(*turns), [make_item(value) for value in given])
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "input", None)
    return caught.value.message


@pytest.mark.parametrize("kind", _PAIRS)
def test_a_call_of_the_latest_turn_has_to_be_answered(kind: str) -> None:
    call = {"type": kind, "id": "x_1", "call_id": "call_1", "status": "completed"}
    turn = make_turn([user("1")], [call])
    words = kind.replace("_", " ")
    assert refusal([turn], user("2")) == f"No tool output found for {words} call_1."
    output = {"type": f"{kind}_output", "call_id": "call_1", "output": ""}
    check_calls(make_chain(turn), [make_item(output)])
    unknown = {**output, "call_id": "call_2"}
    assert refusal([turn], output, unknown) == f"No tool call found for {words} output with call_id call_2."


def test_each_of_several_calls_has_to_be_answered() -> None:
    turn = make_turn([user("1")], [calls("call_1", "fc_1"), calls("call_2", "fc_2")])
    assert refusal([turn], answers("call_1")) == "No tool output found for function call call_2."
    check_calls(make_chain(turn), [make_item(answers("call_2")), make_item(answers("call_1"))])


def test_nothing_is_owed_for_a_turn_that_did_not_complete_nor_for_an_older_one() -> None:
    check_calls(make_chain(make_turn([user("1")], [calls()], status="incomplete")), [make_item(user("2"))])
    check_calls(make_chain(make_turn([user("1")], [calls()]), make_turn([user("2")], [says("3")])), [])


def test_an_output_may_answer_a_call_of_any_turn_or_of_the_same_input() -> None:
    older = [make_turn([user("1")], [calls()], status="incomplete"), make_turn([user("2")], [says("3")])]
    check_calls(make_chain(*older), [make_item(answers())])
    check_calls(make_chain(make_turn([user("1")], [says("2")])), [make_item(calls()), make_item(answers())])


def test_a_call_that_its_own_turn_answered_is_not_open() -> None:
    ran = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "status": "completed"}
    ran_output = {"type": "shell_call_output", "id": "sho_1", "call_id": "call_1", "output": []}
    check_calls(make_chain(make_turn([user("1")], [ran, ran_output, says("2")])), [make_item(user("3"))])


def test_a_call_of_a_failed_turn_was_never_made() -> None:
    turns = [make_turn([user("1")], [says("2")]), make_turn([user("3")], [calls()], status="failed")]
    assert refusal(turns, answers()) == "No tool call found for function call output with call_id call_1."


def test_a_chain_of_a_thousand_turns_is_replayed_whole() -> None:
    # Looked at pair by pair, its 4,000 items would take minutes.
    turns = [make_turn([user(f"{turn}")], [calls(f"call_{turn}"), says("ok", f"m_{turn}")]) for turn in range(1000)]
    answered = [answers(f"call_{turn}") for turn in range(1000)]
    assert len(sent(turns, *answered)) == 4000


def test_a_history_that_becomes_a_clients_own_holds_no_call_that_will_never_be_answered() -> None:
    turns = [
        make_turn([user("1")], [calls("call_1", "fc_1"), calls("call_2", "fc_2")], status="incomplete"),
        make_turn([user("poison")], [], status="failed"),
        make_turn([answers("call_1")], [calls("call_3", "fc_3"), says("2"), calls("call_4", "fc_4")]),
    ]
    items = settled(turns, [make_item(answers("call_4"))])
    assert [shown(item.content) for item in items] == [
        "1",
        "function_call call_1",
        "function_call_output call_1",
        "function_call call_3",
        "2",
        "function_call call_4",
    ]


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
