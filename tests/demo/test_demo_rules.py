from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from app.demo.text import phrase_in, recall

Ask = Callable[..., Awaitable[dict[str, Any]]]

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
SEND_MAIL = {"type": "function", "name": "sendMail", "description": "Writes a letter", "parameters": {}}
TOKYO = "What's the weather in Tokyo?"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(name: str = "get_weather", call_id: str = "call_1", output: Any = "Sunny") -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


async def test_a_plain_text_is_quoted_with_its_turn(ask: Ask) -> None:
    assert (await ask("Hello"))["output_text"] == 'Demo answer to "Hello" (turn 1).'
    later = await ask([user("One"), {"role": "assistant", "content": "Yes"}, user("y" * 300)])
    assert later["output_text"] == f'Demo answer to "{"y" * 200}" (turn 2).'


async def test_the_same_input_gets_the_same_text_under_fresh_ids(ask: Ask) -> None:
    first, second = await ask("Hello"), await ask("Hello")
    assert first["output_text"] == second["output_text"]
    assert first["usage"] == second["usage"]
    assert first["id"] != second["id"]
    assert first["output"][0]["id"] != second["output"][0]["id"]


async def test_parts_of_every_kind_are_read(ask: Ask) -> None:
    parts = [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": "data:,"},
        {"type": "input_text", "text": "this"},
    ]
    spoken = [{"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}]
    got = await ask([{"role": "assistant", "content": spoken}, {"role": "user", "content": parts}, {"type": "novelty"}])
    assert got["output_text"] == 'Demo answer to "See this" (turn 1).'


async def test_an_input_without_a_user_message_is_answered(ask: Ask) -> None:
    got = await ask([{"role": "developer", "content": "Be brief"}])
    assert got["output_text"] == 'Demo answer to "" (turn 0).'


@pytest.mark.parametrize(
    ("told", "asked", "said"),
    [
        ("My name is Ada.", "What is my name?", "Your name is Ada."),
        (
            "my name is Ada and my favourite colour is teal",
            "what's my favourite colour?",
            "Your favourite colour is teal.",
        ),
        ("Remember that the code is 3.14!", "What is the code?", "Your code is 3.14."),
        ("remember door is 42", "What is door", "Your door is 42."),
        ("pin = 9876, thanks", "What is my PIN?", "Your PIN is 9876."),
        ("My keys are here. My keys are there.", "What are my keys?", "Your keys is there."),
        ("My name is Ada", "What\u2019s my name?", "Your name is Ada."),
    ],
)
async def test_a_fact_told_earlier_is_recalled(told: str, asked: str, said: str, ask: Ask) -> None:
    got = await ask([user(told), {"role": "assistant", "content": "Noted"}, user(asked)])
    assert got["output_text"] == said


async def test_a_fact_that_is_not_in_the_input_is_not_known(ask: Ask) -> None:
    await ask("My name is Ada.")
    assert (await ask("What is my name?"))["output_text"] == 'Demo answer to "What is my name?" (turn 1).'
    told_by_another = [{"role": "assistant", "content": "My name is Bo."}, user("What is my name?")]
    assert (await ask(told_by_another))["output_text"] == 'Demo answer to "What is my name?" (turn 1).'


@pytest.mark.timeout(20)
@pytest.mark.parametrize("run", [" ", "my a is b ", "my ", ".", "a=", "what is ", "my a is b. ", "remember "])
def test_megabytes_are_read_without_backtracking(run: str) -> None:
    text = "my pin is 7. " + run * (1_000_000 // len(run))
    assert recall([text], "What is my pin?") == "Your pin is 7."
    assert recall([text], text + " what is my door?") is None


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (TOKYO, "Tokyo"),
        ("Weather in New York, please. Thanks Bo", "New York"),
        ('Say "good night" to Bo', "good night"),
        ("nothing here. I think I'm done", ""),
        ("the Big apple", "Big"),
        ("", ""),
    ],
)
def test_the_phrase_is_a_quotation_or_a_name(text: str, phrase: str) -> None:
    assert phrase_in(text) == phrase


async def test_a_mentioned_function_is_called_with_the_named_place(ask: Ask) -> None:
    got = await ask(TOKYO, tools=[SEND_MAIL, WEATHER])
    (call,) = got["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_weather", "completed")
    assert call["arguments"] == '{"location":"Tokyo"}'
    assert call["id"].startswith("fc_")
    assert call["call_id"].startswith("call_")
    assert got["output_text"] == ""


async def test_a_word_of_the_description_is_a_mention_too(ask: Ask) -> None:
    assert (await ask("I need a letter", tools=[WEATHER, SEND_MAIL]))["output"][0]["name"] == "sendMail"
    assert (await ask("mails now", tools=[WEATHER, SEND_MAIL]))["output"][0]["name"] == "sendMail"


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_weather"),
        ({"type": "function", "name": "sendMail"}, "sendMail"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sendMail"}]},
            "sendMail",
        ),
    ],
)
async def test_a_demanded_function_is_called_unmentioned(choice: Any, name: str, ask: Ask) -> None:
    assert (await ask("Hello", tools=[WEATHER, SEND_MAIL], tool_choice=choice))["output"][0]["name"] == name


@pytest.mark.parametrize(
    "choice",
    [
        "none",
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "sendMail"}]},
        {"type": "mcp", "server_label": "x"},
    ],
)
async def test_a_choice_that_leaves_the_tool_out_gets_a_message(choice: Any, ask: Ask) -> None:
    assert (await ask(TOKYO, tools=[WEATHER, SEND_MAIL], tool_choice=choice))["output"][0]["type"] == "message"


async def test_nothing_mentioned_means_a_message(ask: Ask) -> None:
    assert (await ask("Hello there", tools=[WEATHER]))["output_text"] == 'Demo answer to "Hello there" (turn 1).'


async def test_a_function_without_parameters_gets_an_empty_object(ask: Ask) -> None:
    tool = {"type": "function", "name": "ping", "parameters": None, "strict": False}
    assert (await ask("ping", tools=[tool]))["output"][0]["arguments"] == "{}"


async def test_a_custom_tool_is_called_with_text(ask: Ask) -> None:
    tool = {"type": "custom", "name": "shout"}
    (call,) = (await ask('shout "hey you"', tools=[tool]))["output"]
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "shout", "hey you")
    assert (await ask("shout it", tools=[tool]))["output"][0]["input"] == "shout it"


async def test_a_namespace_offers_its_inner_functions(ask: Ask) -> None:
    namespace = {"type": "namespace", "name": "sky", "description": "The sky", "tools": [WEATHER]}
    (call,) = (await ask(TOKYO, tools=[namespace]))["output"]
    assert (call["name"], call["namespace"]) == ("get_weather", "sky")


async def test_a_tool_output_is_quoted(ask: Ask) -> None:
    got = await ask([user(TOKYO), *called()], tools=[WEATHER], tool_choice="required")
    assert got["output_text"] == "The tool get_weather answered: Sunny"
    parts = [{"type": "input_text", "text": "Rain"}]
    assert (await ask([user(TOKYO), *called(output=parts)]))["output_text"] == "The tool get_weather answered: Rain"


async def test_parallel_tool_outputs_are_all_quoted(ask: Ask) -> None:
    first, second = called(), called("sendMail", "call_2", "Sent")
    got = await ask([user(TOKYO), first[0], second[0], first[1], second[1]])
    assert got["output_text"] == "The tool get_weather answered: Sunny\nThe tool sendMail answered: Sent"


async def test_a_custom_tool_output_is_quoted(ask: Ask) -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "shout", "input": "hey"}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": "HEY"}
    assert (await ask([call, output]))["output_text"] == "The tool shout answered: HEY"


async def test_an_answered_tool_is_not_called_again_until_the_user_speaks(ask: Ask) -> None:
    done = [user(TOKYO), *called(), {"role": "assistant", "content": "Sunny"}]
    for choice in ("auto", "required"):
        assert (await ask(done, tools=[WEATHER], tool_choice=choice))["output"][0]["type"] == "message"
    assert (await ask(done, tools=[WEATHER, SEND_MAIL], tool_choice="required"))["output"][0]["name"] == "sendMail"
    again = await ask([*done, user("And the weather in Paris?")], tools=[WEATHER])
    assert again["output"][0]["arguments"] == '{"location":"Paris"}'


@pytest.mark.parametrize(
    ("tool", "call"),
    [
        ({"type": "web_search_preview"}, "web_search_call"),
        ({"type": "web_search_preview_2025_03_11"}, "web_search_call"),
        ({"type": "file_search", "vector_store_ids": ["vs_1"]}, "file_search_call"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "code_interpreter_call"),
    ],
)
async def test_a_built_in_tool_is_used_before_the_message(tool: dict[str, Any], call: str, ask: Ask) -> None:
    for choice in ("auto", {"type": tool["type"]}):
        hosted, message = (await ask("Look it up", tools=[WEATHER, tool], tool_choice=choice))["output"]
        assert (hosted["type"], hosted["status"], message["type"]) == (call, "completed", "message")
    assert [item["type"] for item in (await ask("Hi", tools=[tool], tool_choice="none"))["output"]] == ["message"]


async def test_the_results_of_a_built_in_tool_are_there_when_they_are_included(ask: Ask) -> None:
    search = {"tools": [{"type": "web_search"}], "include": ["web_search_call.action.sources"]}
    assert (await ask("Hi", tools=search["tools"]))["output"][0]["action"] == {"type": "search", "query": "Hi"}
    assert (await ask("Hi", **search))["output"][0]["action"]["sources"][0]["type"] == "url"
    files = {"tools": [{"type": "file_search", "vector_store_ids": []}], "include": ["file_search_call.results"]}
    assert (await ask("Hi", tools=files["tools"]))["output"][0]["results"] is None
    assert (await ask("Hi", **files))["output"][0]["results"][0]["text"] == "Hi"
    code = {
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
        "include": ["code_interpreter_call.outputs"],
    }
    assert (await ask("Hi", tools=code["tools"]))["output"][0]["outputs"] is None
    assert (await ask("Hi", **code))["output"][0]["outputs"] == [{"type": "logs", "logs": "2\n"}]


async def test_a_structured_answer_comes_before_any_tool_and_may_carry_a_tool_output(ask: Ask) -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    text = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
    assert orjson.loads((await ask(TOKYO, tools=[WEATHER], text=text))["output_text"]) == {"place": "Tokyo"}
    got = await ask([user(TOKYO), *called()], text=text)
    assert orjson.loads(got["output_text"]) == {"place": "The tool get_weather answered: Sunny"}


async def test_json_mode_answers_with_an_object(ask: Ask) -> None:
    got = await ask("Hello", text={"format": {"type": "json_object"}})
    assert orjson.loads(got["output_text"]) == {"answer": 'Demo answer to "Hello" (turn 1).'}


async def test_a_number_of_words_can_be_ordered(ask: Ask) -> None:
    assert (await ask("[words:3]"))["output_text"] == "w1 w2 w3"
    assert (await ask("[words:0]"))["output_text"] == "w1"
    assert (await ask("[words:999999]"))["output_text"].endswith(" w5000")
    assert (await ask([user("[words:3]"), user("Hello")]))["output_text"] == 'Demo answer to "Hello" (turn 2).'
