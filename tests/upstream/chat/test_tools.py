"""Tools of every kind are offered as functions, and each call comes back as the client declared it."""

import sys
import time
from typing import Any

import orjson
import pytest

from app.settings.upstreams import ChatProfile
from app.upstream.chat.call_fragments import InputText
from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.translated import body, messages, request, whole

FUNCTION: Any = {"type": "function", "name": "f", "description": "D", "parameters": {"properties": {}}, "strict": True}
GRAMMAR: Any = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
PATCH: Any = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": GRAMMAR}
SPACE: Any = {
    "type": "namespace",
    "name": "mail",
    "description": "Mail.",
    "tools": [{**FUNCTION, "name": "send"}, PATCH],
}


def called(name: str, arguments: Any = "{}", **fields: Any) -> Any:
    """The item of a call to this name."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return whole({"content": None, "tool_calls": [call]}, "tool_calls", fields=fields)["output"][0]


def test_a_function_has_its_schema_completed() -> None:
    sent = body(tools=[FUNCTION, {"type": "function", "name": "g", "parameters": None, "strict": None}])["tools"]
    assert sent == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "D",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]


def test_a_custom_tool_is_a_function_of_one_text_with_its_grammar() -> None:
    """Rules 15 and 17: also within a namespace."""
    for tools in ([PATCH], [SPACE]):
        function = body(tools=tools)["tools"][-1]["function"]
        assert function["parameters"]["required"] == ["input"]
        assert "lark grammar:\nstart: WORD" in function["description"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"*** Begin\\n\\u00e9"}', "*** Begin\né"),
        ('{"patch":"x"}', "x"),
        ('"x"', "x"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"a":"x","b":"y"}', '{"a":"x","b":"y"}'),
        ('{"input":1}', '{"input":1}'),
        ("{}", "{}"),
        ('{"input":"', ""),
        ('{"input":"cut \\u00', "cut "),
        ('{"input":"twice","input":"b"}', "twice"),
        ('{"input":"half \\ud83d of a pair"}', "half \ufffd of a pair"),
        ('{ "input" : "\\ud83d\\ude00" }', "\U0001f600"),
    ],
)
def test_a_custom_call_returns_raw_text(arguments: str, text: str) -> None:
    """Rules 16 and 19: whatever the model made of the one member."""
    item = called("apply_patch", arguments, tools=[PATCH])
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "apply_patch", text)
    assert item["id"].startswith("ctc_")


@pytest.mark.parametrize("begins", ["", '{"input":"\\x', '{"input":"whole"}', "{ " * 50])
def test_the_work_over_a_raw_text_grows_as_it_does(begins: str) -> None:
    """It comes in many small parts; what is read of it already is not copied or read again."""
    text, parts = InputText(), [begins, *["abcd"] * 400_000]
    started = time.process_time()
    told = [text.feed(part) for part in parts]
    # Of the time, not of the machine's: all anew for each part takes a hundred times as long.
    assert time.process_time() - started < 5
    assert "".join(told) == ("whole" if "whole" in begins else "")


def test_a_character_in_many_parts_is_told_when_it_is_whole() -> None:
    text = InputText()
    assert [text.feed(part) for part in '{"input":"\\ud83d\\ude00."}'] == ["", *[""] * 20, "\U0001f600", ".", "", ""]
    assert text.finish() == ("\U0001f600.", "")


def test_the_declaration_decides_and_not_the_name() -> None:
    """Rule 18."""
    item = called("apply_patch", '{"patch":"x"}', tools=[{**FUNCTION, "name": "apply_patch"}])
    assert (item["type"], item["arguments"]) == ("function_call", '{"patch":"x"}')
    assert item["id"].startswith("fc_")


def test_a_namespace_is_flattened_and_restored_in_answers_and_in_replay() -> None:
    """Rule 21."""
    sent = body(tools=[SPACE])["tools"]
    assert [tool["function"]["name"] for tool in sent] == ["mail__send", "mail__apply_patch"]
    assert sent[0]["function"]["description"] == "Mail.\n\nD"
    item = called("mail__send", tools=[SPACE])
    assert (item["name"], item["namespace"]) == ("send", "mail")
    output = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
    for tools in ([SPACE], []):
        replayed = messages([{"role": "user", "content": "Hi"}, item, output], tools=tools)
        assert replayed[1]["tool_calls"][0]["function"]["name"] == "mail__send"


def test_long_and_strange_names_are_shortened_and_kept_apart() -> None:
    long = "n" * 70
    tools = [
        {**FUNCTION, "name": long},
        {**FUNCTION, "name": "mail__send"},
        {"type": "namespace", "name": "mail", "description": "", "tools": [{**FUNCTION, "name": "send"}]},
    ]
    names = [tool["function"]["name"] for tool in body(tools=tools)["tools"]]
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 64
    assert called(names[0], tools=tools)["name"] == long
    assert called(names[2], tools=tools)["namespace"] == "mail"
    server = {"type": "namespace", "name": "mcp__files__", "tools": [{**FUNCTION, "name": "read"}]}
    assert body(tools=[server])["tools"][0]["function"]["name"] == "mcp__files__read"


def test_a_namespace_within_another_is_refused() -> None:
    """Rule 22."""
    nested = {"type": "namespace", "name": "outer", "tools": [SPACE]}
    with pytest.raises(UnfitRequestError) as refused:
        request(tools=[nested])
    assert refused.value.param == "tools[0].tools[0].type"


def test_tools_that_an_item_brings_are_offered_and_the_first_of_a_name_wins() -> None:
    """Rule 23."""
    brought = {"type": "additional_tools", "role": "developer", "tools": [PATCH, {**FUNCTION, "description": "Later"}]}
    sent = body(input=[brought, {"role": "user", "content": "Hi"}], tools=[FUNCTION])
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["f", "apply_patch"]
    assert sent["tools"][0]["function"]["description"] == "D"
    assert [message["role"] for message in sent["messages"]] == ["user"]


def test_a_function_whose_name_is_that_of_a_flattened_tool_is_kept_apart() -> None:
    """In either order, in answers and in replay: each call belongs to one tool."""
    flat = {**FUNCTION, "name": "mail__send"}
    for tools in ([SPACE, flat], [flat, SPACE]):
        names = [tool["function"]["name"] for tool in body(tools=tools)["tools"]]
        assert len(names) == len(set(names)) == 3
        found = {(item["name"], item.get("namespace")): name for name in names if (item := called(name, tools=tools))}
        assert found.keys() == {("mail__send", None), ("send", "mail"), ("apply_patch", "mail")}
        for (name, namespace), sent in found.items():
            assert replayed(name, namespace, tools=tools) == sent
            choice = {"type": "function", "name": name, "namespace": namespace}
            if name == "mail__send":
                assert body(tools=tools, tool_choice=choice)["tool_choice"]["function"] == {"name": sent}
    # A tool of an earlier turn that is offered no longer is not the other one.
    assert replayed("send", "mail", tools=[flat]) != "mail__send"
    assert replayed("mail__send", None, tools=[SPACE]) != "mail__send"


def replayed(name: str, namespace: str | None, **fields: Any) -> str:
    """The name in the chat of an earlier call to this tool."""
    item = {"type": "function_call", "call_id": "c", "name": name, "namespace": namespace, "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "ok"}
    sent: str = messages([item, output], **fields)[0]["tool_calls"][0]["function"]["name"]
    return sent


def test_a_hosted_tool_that_an_item_brings_is_refused_by_its_place_in_the_input() -> None:
    """It may have come in an earlier turn, and is no tool of this request's."""
    brought = {"type": "additional_tools", "tools": [FUNCTION, {"type": "web_search"}]}
    items = [{"role": "user", "content": "Hi"}, brought]
    with pytest.raises(UnfitRequestError) as refused:
        request(ChatProfile(hosted_tools="refuse"), input=items, tools=[PATCH])
    assert refused.value.param == "input[1].tools[1].type"
    assert request(input=items, tools=[PATCH]).dropped == ["input"]


def test_the_work_over_many_tools_grows_as_they_do() -> None:
    def calls_made(count: int) -> int:
        """The functions of Python that are called for so many tools, calls of them and choices among them."""
        members = [{"type": "function", "name": f"f{number}"} for number in range(count)]
        choice = {"type": "allowed_tools", "tools": [*members]}
        space = {"type": "namespace", "name": "n", "tools": members}
        made = [{"type": "function_call", "call_id": each["name"], "namespace": "n", **each} for each in members]
        made = [{**each, "type": "function_call"} for each in made]
        outputs = [{"type": "function_call_output", "call_id": each["name"], "output": ""} for each in members]
        seen = 0

        def see(_frame: Any, event: str, _told: Any) -> None:
            nonlocal seen
            seen += event == "call"

        sys.setprofile(see)
        try:
            request(tools=[space, *members], tool_choice=choice, input=[*made, *outputs])
        finally:
            sys.setprofile(None)
        return seen

    assert calls_made(400) < 2.2 * calls_made(200)


@pytest.mark.parametrize("kind", ["web_search", "tool_search", "mcp"])
def test_a_hosted_tool_is_dropped_beside_others_and_refused_alone(kind: str) -> None:
    """Rules 24 and 47: never sent as it is."""
    made = request(tools=[FUNCTION, {"type": kind}])
    assert made.dropped == ["tools[1]"]
    assert [tool["function"]["name"] for tool in orjson.loads(made.body)["tools"]] == ["f"]
    for profile, tools in (
        (ChatProfile(), [{"type": kind}]),
        (ChatProfile(hosted_tools="refuse"), [FUNCTION, {"type": kind}]),
    ):
        with pytest.raises(UnfitRequestError):
            request(profile, tools=tools)
    assert "tools" not in body(ChatProfile(hosted_tools="drop"), tools=[{"type": kind}])


def test_an_allowed_subset_is_all_that_is_offered() -> None:
    """Rule 33."""
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    sent = body(tools=[FUNCTION, PATCH], tool_choice=choice)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["f"]
    assert sent["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "any"}, "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "function", "function": {"name": "apply_patch"}}),
    ],
)
def test_a_choice_is_said_in_chat(choice: Any, said: Any) -> None:
    assert body(tools=[FUNCTION, PATCH], tool_choice=choice, parallel_tool_calls=False)["tool_choice"] == said


def test_without_tools_nothing_is_said_of_them() -> None:
    """Rule 52: no empty list, no choice among nothing."""
    sent = body(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert sent.keys() == {"model", "messages"}


def test_a_demand_that_the_server_does_not_know_is_refused() -> None:
    for choice in ("required", {"type": "function", "name": "f"}):
        with pytest.raises(UnfitRequestError) as refused:
            request(ChatProfile(tool_choice="auto_only"), tools=[FUNCTION], tool_choice=choice)
        assert refused.value.param == "tool_choice"


def test_a_name_that_was_never_offered_is_passed_on_as_a_function() -> None:
    item = called("other", {"a": 1}, tools=[FUNCTION])
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "other", '{"a":1}')
