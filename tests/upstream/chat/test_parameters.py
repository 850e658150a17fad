"""Each parameter is said in chat, dropped and named, or refused: nothing that binds is lost in silence."""

from typing import Any

import pytest

from app.settings.upstreams import ChatProfile, UpstreamSettings
from app.upstream.chat.profile import profile_of
from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.translated import body, request

FUNCTION: Any = {"type": "function", "name": "f", "parameters": None}
SCHEMA: Any = {"type": "json_schema", "name": "n", "description": "D", "schema": {"type": "object"}, "strict": True}


def profile(url: str, **said: Any) -> ChatProfile:
    return profile_of(UpstreamSettings(name="u", base_url=url, api="chat", chat=ChatProfile(**said) if said else None))


def test_the_usual_parameters_have_their_chat_names() -> None:
    sent = body(
        max_output_tokens=99,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1,
        frequency_penalty=1,
        stream=True,
        reasoning={"effort": "minimal", "summary": "auto"},
        text={"format": {"type": "text"}},
        store=False,
        metadata={"a": "b"},
        include=["reasoning.encrypted_content"],
    )
    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 99,
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1,
        "frequency_penalty": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "reasoning_effort": "low",
    }


def test_mistral_is_sent_only_what_it_knows() -> None:
    """Rule 49: the golden set of keys."""
    mistral = profile("https://api.mistral.ai/v1")
    sent = request(
        mistral,
        max_output_tokens=9,
        stream=True,
        metadata={"a": "b"},
        user="u",
        service_tier="flex",
        prompt_cache_key="k",
        client_metadata={"x": "y"},
        text={"verbosity": "low"},
        reasoning={"effort": "low"},
        tools=[],
    )
    assert set(body(mistral, max_output_tokens=9, stream=True, user="u", tools=[])) == {
        "model",
        "messages",
        "max_tokens",
        "stream",
    }
    assert sent.dropped == [
        *("text.verbosity", "reasoning.effort", "user", "service_tier", "prompt_cache_key", "client_metadata")
    ]


def test_a_profile_is_known_by_the_host_and_said_by_the_operator() -> None:
    openai = profile("https://api.openai.com/v1")
    assert (openai.max_tokens_as, openai.system_role) == ("max_completion_tokens", "developer")
    assert profile("https://one.openai.azure.com/openai/v1").max_tokens_as == "max_completion_tokens"
    assert profile("https://notopenai.com/v1") == ChatProfile()
    assert profile("https://api.mistral.ai/v1", include_usage=True).include_usage
    assert profile("https://api.mistral.ai/v1", include_usage=True).call_id_form == "mistral9"
    assert profile("http://localhost:11434/v1").max_tokens_as == "max_tokens"


@pytest.mark.parametrize(
    ("effort_as", "effort", "said"),
    [
        ("reasoning_effort", "xhigh", {"reasoning_effort": "high"}),
        ("reasoning_effort", "none", {}),
        ("reasoning.effort", "high", {"reasoning": {"effort": "high"}}),
        ("thinking", "none", {"thinking": {"type": "disabled"}}),
        ("thinking", "low", {"reasoning_effort": "low"}),
        ("chat_template_kwargs", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("chat_template_kwargs", "low", {"chat_template_kwargs": {"enable_thinking": True}}),
        ("none", "low", {}),
    ],
)
def test_effort_is_said_in_one_control(effort_as: Any, effort: str, said: dict[str, Any]) -> None:
    """Rule 1c."""
    made = request(ChatProfile(effort_as=effort_as), reasoning={"effort": effort})
    sent = body(ChatProfile(effort_as=effort_as), reasoning={"effort": effort})
    assert {name: value for name, value in sent.items() if name not in {"model", "messages"}} == said
    assert made.dropped == ([] if said else ["reasoning.effort"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}, "include[1]"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "shell"}]}, "tools[1].type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
    ],
)
def test_what_binds_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    """Rules 33 and 47."""
    with pytest.raises(UnfitRequestError) as refused:
        request(**fields)
    assert (refused.value.param, refused.value.code, refused.value.status) == (param, "unsupported_parameter", 400)


def test_advice_is_dropped_and_named_unless_the_server_takes_it() -> None:
    fields: dict[str, Any] = {"user": "u", "seed": 1, "truncation": "auto", "text": {"verbosity": "low"}, "n": 1}
    assert request(**fields).dropped == ["text.verbosity", "user", "seed", "truncation"]
    taking = ChatProfile(passes=("user", "seed", "verbosity"), omit=("seed",), extra_body={"top_k": 5})
    made, sent = request(taking, **fields), body(taking, **fields)
    assert (sent["user"], sent["verbosity"], sent["top_k"]) == ("u", "low", 5)
    assert made.dropped == ["truncation", "seed"]
    greedy = ChatProfile(passes=("max_tokens", "messages"))
    sent = body(greedy, max_output_tokens=9, max_tokens=99, messages=[])
    assert (sent["max_tokens"], sent["messages"]) == (9, [{"role": "user", "content": "Hi"}])
    assert request(truncation="disabled", service_tier="auto").dropped == []


def test_names_that_clients_make_up_cannot_break_a_header_or_fill_the_log() -> None:
    names: dict[str, Any] = {"a\r\nset-cookie: b": 1, "c,d": 2, "\u00e9": 3, "n" * 99: 4}
    made = request(**names)
    assert made.dropped == ["a__set-cookie__b", "c_d", "_", "n" * 64]


def test_what_a_profile_omits_is_named_as_the_client_calls_it() -> None:
    omitting = ChatProfile(
        omit=(
            "max_tokens",
            "reasoning_effort",
            "response_format",
            "stream_options",
            "temperature",
            "verbosity",
            "top_k",
        ),
        passes=("verbosity",),
        extra_body={"top_k": 5},
    )
    fields: dict[str, Any] = {
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "stream": True,
        "temperature": 1,
    }
    made = request(omitting, **fields)
    assert made.dropped == ["max_output_tokens", "reasoning.effort", "text.format", "temperature", "text.verbosity"]
    assert body(omitting, **fields) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "top_k": 5,
    }


def test_structured_output_keeps_its_name_description_and_strictness() -> None:
    """Rule 34, and what bridges lose."""
    assert body(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert body(text={"format": SCHEMA})["response_format"] == {
        "type": "json_schema",
        "json_schema": {name: SCHEMA[name] for name in ("name", "description", "schema", "strict")},
    }


def test_a_server_that_enforces_no_schema_is_told_it_or_refused() -> None:
    """Rule 54: nothing is injected but the schema itself, and no promise is made that cannot be kept."""
    loose = ChatProfile(json_schema="json_object")
    sent = body(loose, text={"format": {**SCHEMA, "strict": False}}, instructions="Be brief.")
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["messages"][0]["content"].startswith("Be brief.\n\n")
    assert '{"type":"object"}' in sent["messages"][0]["content"]
    assert body(loose, text={"format": {"type": "json_object"}})["messages"] == [{"role": "user", "content": "Hi"}]
    for given, param in ((loose, "text.format.strict"), (ChatProfile(json_schema="none"), "text.format")):
        with pytest.raises(UnfitRequestError) as refused:
            request(given, text={"format": SCHEMA})
        assert refused.value.param == param


def test_log_probabilities_are_asked_for_where_there_are_any() -> None:
    having = ChatProfile(logprobs=True)
    assert body(having, include=["message.output_text.logprobs"])["top_logprobs"] == 0
    sent = body(having, top_logprobs=3)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 3)
