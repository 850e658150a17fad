"""A client searches for tools itself: the search is a function, and what it has found is offered from then on."""

from typing import Any

import orjson
import pytest

from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.test_tools import FUNCTION, SPACE, called
from tests.upstream.chat.translated import body, check, events_of, messages

SEARCH: Any = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": {}}
SEARCHED: Any = {"type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {"query": "mail"}}


def search_output(*tools: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [*tools], **more}


def test_a_search_for_tools_that_the_client_makes_is_a_function() -> None:
    """Rules 24 and 25: its call is an item of its own kind, whose arguments are an object."""
    [sent] = body(tools=[SEARCH])["tools"]
    assert (sent["function"]["name"], sent["function"]["description"]) == ("tool_search", "Finds tools.")
    item = called("tool_search", '{"query":"mail"}', tools=[SEARCH])
    assert item.pop("id").startswith("tsc_")
    assert item == {**SEARCHED, "call_id": "call_1", "status": "completed"}
    assert called("tool_search", "mail", tools=[SEARCH])["arguments"] == {"query": "mail"}
    # A client's own function of that name is another tool.
    assert called("tool_search", tools=[{"type": "function", "name": "tool_search"}, SEARCH])["type"] == "function_call"


def test_the_announced_search_has_no_events_of_its_arguments() -> None:
    fragments = [{"index": 0, "id": "s", "function": {"name": "tool_search", "arguments": '{"query":'}}]
    more = [{"index": 0, "function": {"arguments": '"mail"}'}}]
    chunks = [
        *({"choices": [{"index": 0, "delta": {"tool_calls": each}}]} for each in (fragments, more)),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    events = events_of(chunks, tools=[SEARCH])
    assert check(events)["output"][0]["arguments"] == {"query": "mail"}
    told = [event["type"] for event in events if "item_id" in event or "item" in event]
    assert told == ["response.output_item.added", "response.output_item.done"]


def test_what_a_search_has_found_is_offered_and_named_to_the_model() -> None:
    made = body(input=[SEARCHED, search_output(FUNCTION, SPACE)], tools=[SEARCH])
    names = [tool["function"]["name"] for tool in made["tools"]]
    assert names == ["tool_search", "f", "mail__send", "mail__apply_patch"]
    asked, answered = made["messages"]
    assert orjson.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"query": "mail"}
    assert answered["content"] == "These tools can be called now: f, mail__send, mail__apply_patch"
    nothing = messages([SEARCHED, search_output()], tools=[SEARCH])
    assert nothing[1]["content"] == "No tool was found."
    plain = {"type": "function_call_output", "call_id": "s", "output": "f is there."}
    assert messages([SEARCHED, plain], tools=[SEARCH])[1]["content"] == "f is there."


def test_a_search_that_openai_made_leaves_what_it_found() -> None:
    hosted = {"execution": "server", "call_id": None}
    made = body(input=[{**SEARCHED, **hosted}, search_output(FUNCTION, **hosted), {"role": "user", "content": "Hi"}])
    assert [tool["function"]["name"] for tool in made["tools"]] == ["f"]
    assert made["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_search_without_its_output_is_refused_in_openais_words() -> None:
    with pytest.raises(UnfitRequestError) as refused:
        messages([SEARCHED], tools=[SEARCH])
    assert refused.value.message == "No tool output found for tool search call s."
