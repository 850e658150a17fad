"""Calls and their outputs: which go together, which are owed, and which stay behind."""

from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.state.items.history_input import check_calls, without_open_calls
from app.state.records import Turn
from tests.builders import OTHER, answers, calls, make_chain, make_item, make_turn, says, thinks, user
from tests.state.replayed import sent, shown

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


def test_a_history_that_becomes_a_clients_own_holds_no_call_that_will_never_be_answered() -> None:
    turns = [
        make_turn([user("1")], [calls("call_1", "fc_1"), calls("call_2", "fc_2")], status="incomplete"),
        make_turn([user("poison")], [], status="failed"),
        make_turn([answers("call_1")], [calls("call_3", "fc_3"), says("2"), calls("call_4", "fc_4")]),
    ]
    items = without_open_calls(turns, [make_item(answers("call_4"))])
    assert [shown(item.content) for item in items] == [
        "1",
        "function_call call_1",
        "function_call_output call_1",
        "function_call call_3",
        "2",
        "function_call call_4",
    ]
