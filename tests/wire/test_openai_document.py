"""Requests that OpenAI's document allows are taken, each of its members, variants and item types at least once.

The document is not in the repository; what it found is, in the tests of requests and items.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.conversation_bodies import parse_metadata, parse_new_conversation, parse_new_items
from app.wire.requests.create import parse_compact_request, parse_count_request, parse_create_request
from tests.fakes.openai_document import document

pytestmark = pytest.mark.document

_DEPTH = 64
_LEAST: dict[str, Any] = {"model": "m", "input": "Hi"}
_ITEMS: dict[str, Any] = {
    "type": "object",
    "properties": {"items": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/InputItem"}}},
    "required": ["items"],
}
_PARSERS: dict[str, tuple[Callable[[bytes, int], object], dict[str, Any]]] = {
    "CreateResponse": (parse_create_request, _LEAST),
    "TokenCountsBody": (parse_count_request, {}),
    "CompactResponseMethodPublicBody": (parse_compact_request, _LEAST),
    "CreateConversationBody": (parse_new_conversation, {}),
    "UpdateConversationBody": (parse_metadata, {}),
    "items": (parse_new_items, {}),
}


def _bodies(name: str) -> Iterator[dict[str, Any]]:
    schema = _ITEMS if name == "items" else document().schema(name)
    for sample in document().samples(schema):
        yield {**_PARSERS[name][1], **sample}
    if name == "CreateResponse":
        yield {"prompt": {"id": "pmpt_1"}}
        yield {"prompt": {"id": "pmpt_1"}, "input": "Hi"}


def _is_refused_by_openai(body: dict[str, Any]) -> bool:
    """Whether the API refuses this in spite of its document, as was seen on it."""
    given = body.get("input") or body.get("items") or ()
    says_input = any(
        item.get("role") == "assistant" and isinstance(item.get("content"), list) and _has_input(item["content"])
        for item in given
        if isinstance(item, dict)
    )
    names_no_call = any(
        item.get("type") == "function_call_output" and item.get("call_id") is None and item.get("name") is None
        for item in given
        if isinstance(item, dict)
    )
    has_no_model = "model" in body and body["model"] is None
    has_nothing_to_answer = "input" in body and not body["input"] and not {"prompt", "conversation"} & body.keys()
    both = body.get("previous_response_id") is not None and body.get("conversation") is not None
    return says_input or names_no_call or has_no_model or has_nothing_to_answer or both or _is_no_conversation(body)


def _is_no_conversation(body: dict[str, Any]) -> bool:
    """Whether it names a conversation by what no conversation's id is; the document says any text."""
    named = body.get("conversation")
    named = named.get("id") if isinstance(named, dict) else named
    return isinstance(named, str) and not named.startswith("conv_")


def _has_input(content: list[dict[str, Any]]) -> bool:
    return any(str(part.get("type")).startswith("input_") for part in content)


@pytest.mark.parametrize("name", _PARSERS)
def test_every_request_that_the_document_allows_is_taken(name: str) -> None:
    parse, _ = _PARSERS[name]
    refused, count = [], 0
    for body in _bodies(name):
        if _is_refused_by_openai(body):
            continue
        count += 1
        try:
            parse(orjson.dumps(body), _DEPTH)
        except InvalidRequestError as error:
            refused.append(f"{error.message} ({orjson.dumps(body).decode()[:200]})")
    assert refused == []
    assert count > 0
