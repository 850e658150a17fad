"""OpenAI's objects, as its SDK's own types have them: required members, literals, and nothing that they do not know.

The types say less than the API holds to, so what they leave open is said here in words of our own.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

import orjson
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItem, ConversationItemList
from openai.types.responses import (
    CompactedResponse,
    Response,
    ResponseItem,
    ResponseItemList,
    ResponseOutputItem,
    ResponseStreamEvent,
)
from pydantic import BaseModel, TypeAdapter

KINDS: Mapping[str, Any] = {
    "response": Response,
    "conversation": Conversation,
    "conversation.deleted": ConversationDeletedResource,
    "response.compaction": CompactedResponse,
}
EVENT, ITEM, OUTPUT_ITEM, CONVERSATION_ITEM = ResponseStreamEvent, ResponseItem, ResponseOutputItem, ConversationItem
ITEM_LIST, CONVERSATION_ITEM_LIST = ResponseItemList, ConversationItemList

# On OpenAI's wire, and not in the SDK's types.
_UNTYPED = {"frequency_penalty", "presence_penalty", "store"}
# A response has all of these, null where there is nothing to say.
_RESPONSE = {
    *("id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "instructions", "model"),
    *("output", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "background"),
    *("conversation", "previous_response_id", "store", "usage", "text", "truncation", "reasoning", "service_tier"),
    *("max_output_tokens", "max_tool_calls", "top_logprobs", "safety_identifier", "prompt_cache_key"),
    *("presence_penalty", "frequency_penalty"),
}
_OF_THE_REQUEST = {
    *("text", "truncation", "reasoning", "service_tier", "max_output_tokens", "max_tool_calls", "top_logprobs"),
    *("safety_identifier", "prompt_cache_key", "presence_penalty", "frequency_penalty"),
}
_UNFINISHED = {"queued", "in_progress"}
# Strings that may not be null in a response, whatever the types say.
_NEVER_NULL = {"model", "object", "parallel_tool_calls", "tool_choice", "tools", "metadata", "text", "user", "status"}


def check(value: Any, kind: Any = None, *, beside: Collection[str] = ()) -> None:
    """Raise AssertionError or ValidationError where this is not one of OpenAI's objects, by its `object` or this kind.

    It may have members that are none of the types' and stand `beside` them.
    """
    if isinstance(value, bytes):
        value = orjson.loads(value)
    read = _adapter(kind or KINDS[value["object"]]).validate_json(orjson.dumps(value), strict=True)
    assert sorted(set(_unknown(read)) - _UNTYPED - {*beside}) == []


def check_response(value: Any, *, is_rebuilt: bool = False) -> None:
    """Hold a response object that the gateway made itself to OpenAI's types, and to what they leave open.

    One that `is_rebuilt` of what upstream had announced says no more than that of what was asked.
    """
    if isinstance(value, bytes):
        value = orjson.loads(value)
    check(value, Response)
    assert (_RESPONSE - _OF_THE_REQUEST if is_rebuilt else _RESPONSE) - value.keys() == set()
    assert [name for name in _NEVER_NULL if name in value and value[name] is None] == []
    assert value["id"].startswith("resp_")
    assert (value["completed_at"] is not None) == (value["status"] == "completed")
    assert (value["error"] is not None) == (value["status"] == "failed")
    assert (value["usage"] is not None) >= (value["status"] == "completed")
    if value["status"] in _UNFINISHED:
        assert (value["output"], value["usage"]) == ([], None)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _unknown(value: Any) -> Iterator[str]:
    """The names of members that no type knows."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name))
    elif isinstance(value, list):
        for element in value:
            yield from _unknown(element)
