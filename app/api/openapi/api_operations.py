"""Describe each call under /v1, and the probes, for the OpenAPI document, by the name of the call."""

from collections.abc import Mapping
from types import MappingProxyType

from app.api.openapi.admin_schemas import query_of
from app.api.openapi.error_answers import OF_BODIES
from app.api.openapi.operation import Answer, Operation, Parameter, Schema, json, one_of, ref
from app.api.v1.usage import UsageQuery
from app.state.items.item_pages import DEFAULT_LIMIT
from app.wire.requests.field_rules import INCLUDE_NAMES

_TEXT: Schema = {"type": "string"}
_STREAM = "text/event-stream"
_UPSTREAM = (404, 502, 504)

_LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "x-ratelimit-limit-requests": "The caller's own limit, where it has one; so for tokens.",
        "x-ratelimit-remaining-requests": "What is left of it.",
        "x-ratelimit-reset-requests": "When it is whole again.",
    }
)
_IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255},
    "The call is made once under this key; repeats within 24 hours get the same answer.",
    "header",
)
_BETA = Parameter("beta", {"type": "boolean"}, "`true` names OpenAI's beta, as upstream is told.")
_INCLUDE = Parameter(
    "include",
    {"type": "string", "examples": [*INCLUDE_NAMES]},
    "Taken, and changes nothing: a stored object is returned with all that it has.",
)
_PAGE = (
    Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": 100, "default": DEFAULT_LIMIT},
        "Most items of the page. A page of large items has fewer.",
    ),
    Parameter("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}, "Oldest or newest first."),
    Parameter("after", _TEXT, "Item id: the page begins behind it."),
    Parameter("before", _TEXT, "Item id: the page ends before it."),
)
_RESPONSE = {"application/json": ref("Response"), _STREAM: ref("ResponseEvent")}
_CONVERSATION = json("The conversation.", ref("Conversation"))
_ITEMS = json("A page of items.", ref("ItemList"))

_WHOLE_NUMBER: Schema = {"type": ["integer", "null"], "minimum": 1}
_TEXT_OR_LIST: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]}


def _relayed(
    given: str,
    what: Schema,
    answer: str,
    *,
    streams: bool = False,
    needs_model: bool = True,
    instead: Schema | None = None,
) -> Operation:
    """A call that is relayed as it came: only what the gateway acts on is said, the rest is upstream's.

    A body may be as `instead` says in its place.
    """
    limits = ("max_completion_tokens", "max_tokens", "n")
    members: dict[str, Schema] = {"model": {"type": "string", "minLength": 1}, given: what}
    content: dict[str, Schema] = {"application/json": {"type": "object"}}
    if streams:
        members |= {"stream": {"type": ["boolean", "null"]}, "stream_options": {"type": ["object", "null"]}}
        members |= dict.fromkeys(limits, _WHOLE_NUMBER)
        content[_STREAM] = {"type": "object"}
    needed = ["model", given] if needs_model else [given]
    body: Schema = {"type": "object", "properties": members, "required": needed}
    return Operation(
        body=body if instead is None else one_of(body, instead),
        answers={200: Answer(answer, content, _LIMITS)},
        errors=(*OF_BODIES, *_UPSTREAM),
        relays_errors=True,
    )


API_OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "create_response": Operation(
            parameters=(_IDEMPOTENCY_KEY, _BETA),
            body=ref("CreateResponse"),
            answers={
                200: Answer(
                    "The response; with `stream` its events as upstream sends them, with comments while nothing comes. "
                    "With `background` the response as it is queued, or the events of its log.",
                    _RESPONSE,
                    {"x-antiphon-dropped": "Parameters that a chat upstream was not sent, by name.", **_LIMITS},
                )
            },
            errors=(*OF_BODIES, *_UPSTREAM, 409),
            relays_errors=True,
        ),
        "compact_context": Operation(
            parameters=(_BETA,),
            body=ref("CompactContext"),
            answers={200: json("The shorter context, upstream's own or the gateway's.", ref("Compaction"), _LIMITS)},
            errors=(*OF_BODIES, *_UPSTREAM),
            relays_errors=True,
        ),
        "count_input_tokens": Operation(
            parameters=(_BETA,),
            body=ref("CountInputTokens"),
            answers={
                200: json(
                    "The number of tokens.",
                    ref("InputTokens"),
                    {"x-antiphon-estimated": "`true` where the gateway has estimated it.", **_LIMITS},
                )
            },
            errors=(*OF_BODIES, *_UPSTREAM),
            relays_errors=True,
        ),
        "create_chat_completion": _relayed(
            "messages",
            {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "The completion as upstream made it; with `stream` its chunks. A create call that comes in its place, with "
            "an `input` and no `messages`, is made as a response, and answered as a completion.",
            streams=True,
            instead={
                "type": "object",
                "properties": {"input": {}, "messages": {"maxItems": 0}},
                "required": ["model", "input"],
            },
        ),
        "create_embeddings": _relayed("input", _TEXT_OR_LIST, "The embeddings as upstream made them."),
        "create_completion": _relayed("prompt", _TEXT_OR_LIST, "The completion as upstream made it.", streams=True),
        "create_moderation": _relayed("input", _TEXT_OR_LIST, "Upstream's findings.", needs_model=False),
        "retrieve_response": Operation(
            parameters=(
                Parameter("stream", {"type": "boolean"}, "Stream the events of a background response."),
                Parameter(
                    "starting_after",
                    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
                    "With `stream`: the `sequence_number` of the last event that is not wanted.",
                ),
                Parameter("include_obfuscation", {"type": "boolean"}, "Taken, and changes nothing."),
                _INCLUDE,
            ),
            answers={200: Answer("The response, or its events.", _RESPONSE)},
            errors=(400, 404),
        ),
        "delete_response": Operation(answers={200: json("It is deleted.", ref("DeletedResponse"))}, errors=(400, 404)),
        "cancel_response": Operation(
            answers={200: json("The response as it ended.", ref("Response"))}, errors=(400, 404)
        ),
        "list_input_items": Operation(parameters=(*_PAGE, _INCLUDE), answers={200: _ITEMS}, errors=(400, 404)),
        "create_conversation": Operation(
            parameters=(_IDEMPOTENCY_KEY,),
            body=ref("NewConversation"),
            needs_body=False,
            answers={200: _CONVERSATION},
            errors=(*OF_BODIES, 404, 409),
        ),
        "retrieve_conversation": Operation(answers={200: _CONVERSATION}, errors=(400, 404)),
        "update_conversation": Operation(
            body=ref("NewMetadata"), answers={200: _CONVERSATION}, errors=(*OF_BODIES, 404)
        ),
        "delete_conversation": Operation(
            answers={200: json("It is deleted.", ref("DeletedConversation"))}, errors=(400, 404)
        ),
        "create_items": Operation(
            parameters=(_IDEMPOTENCY_KEY, _INCLUDE),
            body=ref("NewItems"),
            answers={200: json("The items that were added.", ref("ItemList"))},
            errors=(*OF_BODIES, 404, 409),
        ),
        "list_items": Operation(parameters=(*_PAGE, _INCLUDE), answers={200: _ITEMS}, errors=(400, 404)),
        "retrieve_item": Operation(
            parameters=(_INCLUDE,), answers={200: json("The item.", ref("Item"))}, errors=(400, 404)
        ),
        "delete_item": Operation(answers={200: _CONVERSATION}, errors=(400, 404)),
        "list_models": Operation(answers={200: json("All of them.", ref("ModelList"))}),
        "retrieve_model": Operation(answers={200: json("The model.", ref("Model"))}, errors=(404,)),
        "show_usage": Operation(
            parameters=query_of(
                UsageQuery,
                {
                    "since": "Unix seconds; 30 days before `until` if unset.",
                    "until": "Unix seconds; now if unset.",
                    "group_by": "What `data` has an entry for. `day` if unset.",
                },
            ),
            answers={200: json("Limits and sums.", ref("Usage"))},
            errors=(400,),
        ),
        "livez": Operation(answers={200: json("It lives.", ref("Live"))}),
        "readyz": Operation(
            answers={
                200: json("Calls should be sent here.", ref("Readiness")),
                503: json("Calls should be sent elsewhere; the members say why.", ref("Readiness")),
            }
        ),
    }
)
