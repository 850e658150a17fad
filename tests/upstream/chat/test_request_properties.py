"""Whatever stands anywhere in a request, it is translated or refused by its path, and it is not changed."""

import copy
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from app.settings.upstreams import ChatProfile
from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.translated import request, seal

SEALED = seal(orjson.dumps({"upstream": "one", "text": "Hm.", "field": "reasoning", "extras": {"call_1": {}}}))
FUNCTION: Any = {"type": "function", "name": "f", "description": "D", "parameters": {"type": "object"}, "strict": True}
CUSTOM: Any = {
    "type": "custom",
    "name": "apply_patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
}
# One of each item, part, tool and parameter that is translated.
VALID: Any = {
    "model": "m",
    "instructions": "Be kind.",
    "input": [
        {"role": "developer", "content": "Use tools."},
        {"type": "additional_tools", "role": "developer", "tools": [CUSTOM, {"type": "web_search"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,AA=="},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SEALED},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "S"}],
            "content": [{"type": "reasoning_text", "text": "T"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "send", "namespace": "mail", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": "https://x/z.png"}],
        },
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Go on."},
    ],
    "tools": [
        FUNCTION,
        {"type": "namespace", "name": "mail", "description": "Mail.", "tools": [{"type": "function", "name": "send"}]},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "send", "namespace": "mail"}],
    },
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": False},
        "verbosity": "low",
    },
    "reasoning": {"effort": "high", "summary": "auto", "context": "auto"},
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "top_logprobs": 2,
    "max_output_tokens": 99,
    "temperature": 0.5,
    "parallel_tool_calls": True,
    "stream": True,
    "prompt_cache_options": {"mode": "implicit"},
    "truncation": "auto",
    "user": "u",
}
GENEROUS = ChatProfile(files=True, audio=True, logprobs=True, passes=("user",), omit=("temperature",))
LOOSE = ChatProfile(
    files=True,
    audio=True,
    logprobs=True,
    json_schema="json_object",
    system_position="inline",
    call_id_form="mistral9",
    reasoning_replay="always",
    fills_reasoning=True,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["function", "custom", "namespace", "message", "reasoning", "input_image", "call_1", "user"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "x"]), inner),
    max_leaves=6,
)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value within this one stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        yield (*before, name)
        yield from places(member, (*before, name))


PLACES = sorted(places(VALID), key=repr)
GONE = object()


def mutated(place: tuple[Any, ...], value: Any) -> Any:
    """The valid request with another value at this place, or none."""
    whole = copy.deepcopy(VALID)
    inner = whole
    for name in place[:-1]:
        inner = inner[name]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return whole


def refusal(profile: ChatProfile, fields: Any) -> UnfitRequestError | None:
    """Translate this; return the error, if it is refused."""
    try:
        made = request(profile, **fields)
    except UnfitRequestError as error:
        return error
    assert {"model", "messages"} <= orjson.loads(made.body).keys()
    return None


def check(fields: Any) -> None:
    before = copy.deepcopy(fields)
    for profile in (GENEROUS, LOOSE):
        refused = refusal(profile, fields)
        assert refused is None or (refused.status == 400 and refused.param and refused.message)
    assert fields == before


def test_the_request_that_is_mutated_is_translated_whole() -> None:
    for profile in (GENEROUS, LOOSE):
        sent = orjson.loads(request(profile, **VALID).body)
        assert [each["role"] for each in sent["messages"]].count("tool") == 2
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["f", "mail__send"]


@settings(deadline=None)
@given(st.sampled_from(PLACES), VALUES | st.just(GONE))
def test_any_value_at_any_place_is_translated_or_refused(place: tuple[Any, ...], value: Any) -> None:
    check(mutated(place, value))


def test_every_place_takes_every_type_or_is_refused() -> None:
    """What hypothesis may not come upon in few tries."""
    for place in PLACES:
        for value in (None, 1, True, 1e300, 0.5, "", "x", [], [None], [[]], [{}], {}, {"type": []}, {"type": {}}, GONE):
            check(mutated(place, value))
