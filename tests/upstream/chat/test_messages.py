"""Items become messages in one pass: calls with their outputs, texts folded, instructions in their place."""

from typing import Any

import orjson
import pytest

from app.settings.upstreams import ChatProfile
from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.translated import messages, seal

USER: Any = {"role": "user", "content": "Hi"}


def call(call_id: str = "call_1", name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}", **more}


def output(call_id: str = "call_1", said: Any = "fine") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def tool_call(call_id: str = "call_1", name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def test_text_between_a_call_and_its_output_is_folded_into_the_message_of_the_call() -> None:
    """Rules 26 and 27: one message for text and calls, nothing between calls and outputs."""
    assert messages([USER, call(), assistant("I look."), output()]) == [
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": [tool_call()]},
        {"role": "tool", "tool_call_id": "call_1", "content": "fine"},
    ]


def test_outputs_follow_in_the_order_of_their_calls_however_late() -> None:
    """Rule 28."""
    found = messages([USER, call("a"), call("b"), output("b", "B"), USER, output("a", "early"), output("a", "A")])
    assert [each.get("tool_call_id", each["role"]) for each in found] == ["user", "assistant", "a", "b", "user"]
    assert [call["id"] for call in found[1]["tool_calls"]] == ["a", "b"]
    assert [each["content"] for each in found[2:4]] == ["A", "B"]
    assert found[1]["content"] is None


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([USER, call()], "No tool output found for function call call_1."),
        ([USER, output()], "No tool call found for function call output with call_id call_1."),
    ],
)
def test_half_a_pair_is_refused_in_openais_words(items: list[Any], words: str) -> None:
    """Rules 29 and 30."""
    with pytest.raises(UnfitRequestError) as refused:
        messages(items)
    assert (refused.value.message, refused.value.param, refused.value.status) == (words, "input", 400)
    assert refused.value.code is None


def test_an_output_without_the_id_of_its_call_is_refused_by_its_path() -> None:
    """OpenAI takes the name of a tool there, which no message of a chat can say."""
    for unpaired in ({"name": "f"}, {"call_id": None}, {"call_id": ""}, {"call_id": 5}):
        item = {"type": "function_call_output", "output": "fine", **unpaired}
        with pytest.raises(UnfitRequestError) as refused:
            messages([USER, call(), item])
        assert (refused.value.param, refused.value.status) == ("input[2].call_id", 400)


def test_calls_with_one_id_keep_their_own_outputs_in_order() -> None:
    """Some servers number the calls of each answer anew: a later output must not be that of the earlier call."""
    items = [USER, call("c", "f"), output("c", "F"), call("c", "g"), output("c", "G"), output("c", "late G")]
    assert messages(items) == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [tool_call("c", "f")]},
        {"role": "tool", "tool_call_id": "c", "content": "F"},
        {"role": "assistant", "content": None, "tool_calls": [tool_call("c_2", "g")]},
        {"role": "tool", "tool_call_id": "c_2", "content": "late G"},
    ]
    at_once = messages([USER, call("c", "f"), call("c", "g"), output("c", "F"), output("c", "G")])
    assert at_once[1]["tool_calls"] == [tool_call("c", "f"), tool_call("c_2", "g")]
    assert [(each["tool_call_id"], each["content"]) for each in at_once[2:]] == [("c", "F"), ("c_2", "G")]
    for short in ([USER, call("c"), output("c"), call("c")], [USER, output("c"), call("c")]):
        with pytest.raises(UnfitRequestError) as refused:
            messages(short)
        assert "found for function call" in refused.value.message


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_an_image_outside_a_users_message_is_refused_by_its_path(role: str) -> None:
    parts = [{"type": "output_text", "text": "See"}, {"type": "input_image", "image_url": "https://x/y.png"}]
    with pytest.raises(UnfitRequestError) as refused:
        messages([USER, {"role": role, "content": parts}])
    assert (refused.value.param, refused.value.code) == ("input[1].content[1]", "unsupported_parameter")


def test_arguments_that_are_an_object_are_written_as_json() -> None:
    for said, written in (({"a": [1]}, '{"a":[1]}'), (None, "{}"), ("", "{}"), ("{", "{")):
        found = messages([USER, {**call(), "arguments": said}, output()])
        assert found[1]["tool_calls"] == [tool_call(arguments=written)]


def test_images_of_a_tool_go_into_one_users_message_behind_all_outputs() -> None:
    """Rule 31."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "original"}
    items = [USER, call("a"), call("b"), output("a", [image]), output("b", [{"type": "input_text", "text": "B"}])]
    assert messages(items)[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "(see the next message)"},
        {"role": "tool", "tool_call_id": "b", "content": "B"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What the tool call a returned:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            ],
        },
    ]
    native = messages(items, ChatProfile(tool_result_images="native"))
    assert native[2]["content"][0]["type"] == "image_url"
    assert "left out" in messages(items, ChatProfile(tool_result_images="drop_with_note"))[2]["content"]
    with pytest.raises(UnfitRequestError) as refused:
        messages(items, ChatProfile(tool_result_images="refuse"))
    assert refused.value.param == "input[3].output"


def test_an_image_of_the_user_is_shown() -> None:
    """Rule 32."""
    parts = [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
    ]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
    ]


@pytest.mark.parametrize(
    ("part", "profile", "param"),
    [
        ({"type": "input_image", "file_id": "file_1"}, {}, "input[0].content[0].file_id"),
        ({"type": "input_image", "image_url": "https://x"}, {"images": False}, "input[0].content[0]"),
        ({"type": "input_file", "file_data": "AA"}, {}, "input[0].content[0]"),
        ({"type": "input_file", "file_id": "file_1"}, {"files": True}, "input[0].content[0].file_id"),
        ({"type": "input_file", "file_url": "https://x"}, {"files": True}, "input[0].content[0].file_url"),
        ({"type": "input_audio", "input_audio": {}}, {}, "input[0].content[0]"),
    ],
)
def test_what_a_server_cannot_be_shown_is_refused_by_its_path(part: Any, profile: Any, param: str) -> None:
    """Rule 33: never dropped, as the model would see nothing."""
    with pytest.raises(UnfitRequestError) as refused:
        messages([{"role": "user", "content": [part]}], ChatProfile(**profile))
    assert (refused.value.param, refused.value.code, refused.value.status) == (param, "unsupported_parameter", 400)


def test_instructions_and_developers_are_one_system_message_in_front() -> None:
    """Rules 35, 36 and 37: a role that every template knows, in order, the operator's words first."""
    items = [{"role": "system", "content": "One"}, USER, {"role": "developer", "content": "Two"}]
    assert messages(items, instructions="Zero") == [{"role": "system", "content": "Zero\n\nOne\n\nTwo"}, USER]
    inline = messages(items, ChatProfile(system_position="inline", system_role="developer"), instructions="Zero")
    assert [(each["role"], each["content"]) for each in inline] == [
        ("developer", "Zero"),
        ("developer", "One"),
        ("user", "Hi"),
        ("developer", "Two"),
    ]
    assert messages([USER], instructions="") == [USER]


def test_a_developer_between_a_call_and_its_output_comes_after_them() -> None:
    items = [USER, call(), {"role": "developer", "content": "Two"}, output(), assistant("Done")]
    inline = messages(items, ChatProfile(system_position="inline"))
    assert [each["role"] for each in inline] == ["user", "assistant", "tool", "system", "assistant"]


def test_assistant_messages_without_ids_and_the_easy_form_are_taken() -> None:
    """Rules 50 and 51."""
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert messages([USER, {"role": "assistant", "content": "Yes"}, assistant("and"), refusal]) == [
        USER,
        {"role": "assistant", "content": "Yes\n\nand\n\nNo."},
    ]


def test_what_openai_ran_in_an_earlier_turn_is_left_out_and_unknown_items_are_refused() -> None:
    """Rule 25."""
    assert messages([{"type": "web_search_call", "id": "ws_1", "status": "completed"}, USER]) == [USER]
    with pytest.raises(UnfitRequestError) as refused:
        messages([USER, {"type": "shell_call", "call_id": "c", "action": {}}])
    assert refused.value.param == "input[1].type"


@pytest.mark.parametrize(("form", "content"), [("null", [None]), ("empty", [""]), ("omit", [])])
def test_a_message_of_calls_alone_has_the_content_that_the_server_takes(form: Any, content: list[Any]) -> None:
    """Rule 52: and never an empty list of calls."""
    found = messages([USER, call(), output(), assistant("Done")], ChatProfile(null_content=form))
    assert [found[1][name] for name in ("content",) if name in found[1]] == content
    assert "tool_calls" not in found[3]


def test_ids_of_calls_have_the_form_that_mistral_takes() -> None:
    found = messages([USER, call("call_abc"), output("call_abc")], ChatProfile(call_id_form="mistral9"))
    assert found[1]["tool_calls"][0]["id"] == found[2]["tool_call_id"]
    assert len(found[2]["tool_call_id"]) == 9
    assert messages([USER, call("abc123DEF"), output("abc123DEF")], ChatProfile(call_id_form="mistral9"))[2][
        "tool_call_id"
    ] == ("abc123DEF")


def thinking(upstream: str = "one", **parts: Any) -> dict[str, Any]:
    sealed = {"upstream": upstream, "text": "Hm.", "field": "reasoning_content", **parts}
    return {"type": "reasoning", "summary": [], "encrypted_content": seal(orjson.dumps(sealed))}


def test_two_tool_rounds_keep_both_reasonings() -> None:
    """Rules 1 and 4."""
    items = [USER, thinking(text="A"), call("a"), output("a"), thinking(text="B"), call("b"), output("b")]
    found = messages(items, ChatProfile(fills_reasoning=True))
    assert [each.get("reasoning_content") for each in found if each["role"] == "assistant"] == ["A", "B"]


def test_reasoning_goes_back_as_the_profile_says() -> None:
    """Rules 1 and 2: with the calls, always or never; the member that it came in, or the profile's."""
    said = [USER, thinking(), assistant("Yes"), USER]
    assert "reasoning_content" not in messages(said)[1]
    assert messages(said, ChatProfile(reasoning_replay="always"))[1]["reasoning_content"] == "Hm."
    called = [USER, thinking(field="reasoning"), call(), output()]
    assert messages(called)[1]["reasoning"] == "Hm."
    assert messages(called, ChatProfile(reasoning_in="reasoning_content"))[1]["reasoning_content"] == "Hm."
    assert not {"reasoning", "reasoning_content"} & messages(called, ChatProfile(reasoning_replay="never"))[1].keys()


def test_a_history_without_reasoning_says_that_it_is_empty_where_the_server_insists() -> None:
    """Rules 1b and 3."""
    items = [USER, {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA-foreign"}, call(), output()]
    assert messages(items, ChatProfile(fills_reasoning=True))[1]["reasoning_content"] == ""
    assert "reasoning_content" not in messages(items)[1]


def test_opaque_parts_go_back_whole_to_their_upstream_alone() -> None:
    """Rules 5, 6, 7 and 8: signatures and details; text goes on, they stay."""
    extra = {"google": {"thought_signature": "c2ln"}}
    details = [{"type": "reasoning.encrypted", "data": "xx", "index": 0}]
    parts: Any = {"extras": {"call_1": extra}, "details": details}
    openrouter = ChatProfile(reasoning_in="reasoning_details")
    own = messages([USER, thinking(**parts), call(), output()], openrouter)[1]
    assert (own["reasoning_details"], own["tool_calls"][0]["extra_content"]) == (details, extra)
    foreign = messages([USER, thinking("other", **parts), call(), output()], openrouter)[1]
    assert foreign.keys() == {"role", "content", "tool_calls", "reasoning"}
    assert "extra_content" not in foreign["tool_calls"][0]


def test_details_or_text_go_back_and_never_both() -> None:
    """A server that is told the same twice counts it twice, or refuses it."""
    details = [{"type": "reasoning.text", "text": "Hm.", "index": 0}]
    items = [USER, thinking(details=details, field="reasoning"), call(), output()]
    plain = {"role": "assistant", "content": None, "tool_calls": [tool_call()]}
    for member in ("auto", "reasoning_details"):
        assert messages(items, ChatProfile(reasoning_in=member))[1] == {**plain, "reasoning_details": details}
    for name in ("reasoning", "reasoning_content"):
        assert messages(items, ChatProfile(reasoning_in=name))[1] == {**plain, name: "Hm."}


def test_reasoning_text_and_summaries_of_others_are_read() -> None:
    text = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "T"}]}
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}]}
    for item, said in ((text, "T"), (summary, "S")):
        assert messages([USER, item, call(), output()])[1]["reasoning_content"] == said
