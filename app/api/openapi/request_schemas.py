"""The bodies of calls under /v1 as JSON Schemas, from the checks that the gateway holds them to."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from app.api.openapi.check_schemas import ByHand, merged, of_type, schema_of
from app.api.openapi.operation import Schema, described, nullable, object_with, one_of, ref
from app.wire.requests import conversation_bodies, create, field_rules, input_items, metadata
from app.wire.requests.field_rules import OPENAI_RULES, STRUCTURAL_RULES

MEMBERS: Mapping[str, str] = MappingProxyType(
    {
        "model": "Name of the model; `GET /v1/models` lists those that the key may use.",
        "input": "Text, or a list of input items.",
        "previous_response_id": "Stored response to continue. The gateway sends its whole history upstream.",
        "conversation": "Conversation to continue, by its id: the turn is added. Not with `previous_response_id`.",
        "prompt": "Prompt template of the upstream account. It may bring the model and the input.",
        "moderation": "Moderation options, for upstream.",
        "include": "Additional data that the response is to contain.",
        "tools": "Tools that the model may call. Those that upstream hosts need an upstream that has them.",
        "tool_choice": "Whether a tool has to be called, and which.",
        "metadata": "Up to 16 pairs of strings that are kept with the object and returned with it.",
        "text": "Format and verbosity of the text that is generated.",
        "temperature": "Sampling temperature.",
        "top_p": "Nucleus sampling: the probability mass to choose from.",
        "presence_penalty": "Penalty for tokens that have appeared.",
        "frequency_penalty": "Penalty for tokens by how often they have appeared.",
        "parallel_tool_calls": "Whether several tools may be called at once.",
        "stream": "Answer with server-sent events instead of one JSON object.",
        "stream_options": "Options of a stream.",
        "background": "Answer at once, generate in the background. Poll the response, or stream it from any event on.",
        "background_options": "Options of a background response, for upstream.",
        "max_output_tokens": "Most tokens that may be generated, reasoning included.",
        "max_tool_calls": "Most calls of hosted tools.",
        "reasoning": "Effort and summary of a reasoning model.",
        "user": "End user's id. Replaced by `safety_identifier` and `prompt_cache_key`.",
        "safety_identifier": "Stable id of the end user, for upstream's abuse detection.",
        "prompt_cache_options": "Options of upstream's prompt cache.",
        "prompt_cache_key": "Key by which upstream finds a cached prompt.",
        "prompt_cache_retention": "How long upstream keeps the cached prompt.",
        "truncation": "What to do with input that does not fit the context window.",
        "instructions": "System message of this call alone; it is not continued.",
        "store": "Keep the response, for `GET` and for continuation. Default: true.",
        "service_tier": "Upstream's processing tier.",
        "top_logprobs": "How many of the most likely tokens to return at each position.",
        "context_management": "Compaction of a context that grows too long, by upstream or else by the gateway.",
        "access_programs": "Access programs, for upstream.",
        "image": "Image options, for upstream.",
    }
)
"""What each member of a create body is for. What a body has beside them goes upstream as it is."""

# Small enough to stand where they are used; every other member has a schema of its own name.
_SIMPLE = frozenset({"string", "integer", "number", "boolean"})
_ITEM, _METADATA = ref("InputItem"), ref("Metadata")

_BY_HAND: ByHand = MappingProxyType(
    {
        input_items.check_item: _ITEM,
        input_items.check_structure: _ITEM,
        metadata.check_metadata: _METADATA,
        OPENAI_RULES["model"]: {"type": "string", "minLength": 1},
        STRUCTURAL_RULES["model"]: {"type": "string", "minLength": 1},
        # Of whole numbers OpenAI says that they are none of its efforts.
        field_rules.no_integer: {"not": {}},
        field_rules.anything: {},
    }
)


def components() -> dict[str, Schema]:
    """Schemas by name: the three bodies of /v1/responses, those of conversations, and the parts of them."""
    parts = {_name(name): schema for name, schema in _members().items() if not _is_simple(schema)}
    return {
        "CreateResponse": _create(),
        "CompactContext": {**_body(("model",), without=create.NOT_COMPACTED), "required": ["model"]},
        "CountInputTokens": _count(),
        "NewConversation": _closed("items", "metadata", optional=("items", "metadata")),
        "NewItems": _closed("items"),
        "NewMetadata": _closed("metadata"),
        **parts,
        "InputItem": _item(),
        "Metadata": _metadata(),
    }


def _members() -> dict[str, Schema]:
    """Each member of a create body, by the rules of any upstream and the values that OpenAI has today."""
    return {
        name: merged(schema_of(check, _BY_HAND), schema_of(STRUCTURAL_RULES[name], _BY_HAND))
        for name, check in OPENAI_RULES.items()
    }


def _is_simple(schema: Schema) -> bool:
    return schema.get("type") in _SIMPLE or "$ref" in schema or schema == {"type": "object"}


def _name(member: str) -> str:
    return "Create" + "".join(word.capitalize() for word in member.split("_"))


def _body(never_null: Collection[str], without: Collection[str] = ()) -> Schema:
    """An object with all members of a create body, and any others."""
    properties = {}
    for name, schema in _members().items():
        if name not in without:
            told = schema if _is_simple(schema) else ref(_name(name))
            properties[name] = described(told if name in never_null else nullable(told), MEMBERS[name])
    return {"type": "object", "properties": properties}


def _create() -> Schema:
    body = _body(("input",))
    asked = {"required": ["model", "input"], "properties": {"model": {"type": "string"}}}
    # A prompt template may bring both.
    return {**body, "anyOf": [asked, {"required": ["prompt"], "properties": {"prompt": {"type": "object"}}}]}


def _count() -> Schema:
    body = _body(())
    body["properties"]["personality"] = described(
        nullable(schema_of(create.PERSONALITY, _BY_HAND)), "Personality, for upstream."
    )
    return body


def _closed(*names: str, optional: Collection[str] = ()) -> Schema:
    """The body of a conversations endpoint, which has these members and no others."""
    members = {name: schema_of(conversation_bodies.FIELDS[name], _BY_HAND) for name in names}
    # Items that have to be there may not be null.
    return object_with(
        {name: schema if name == "items" and not optional else nullable(schema) for name, schema in members.items()},
        *optional,
    )


def _metadata() -> Schema:
    return {
        "type": "object",
        "description": MEMBERS["metadata"],
        "maxProperties": metadata.MOST_PAIRS,
        "propertyNames": {"maxLength": metadata.LONGEST_KEY},
        "additionalProperties": schema_of(metadata.VALUE, _BY_HAND),
    }


def _item() -> Schema:
    """An input item: of a type that is checked, a reference to one that is kept, or of any other type."""
    strict, loose = (
        schema_of(input_items.MESSAGE, _BY_HAND),
        schema_of(input_items.STRUCTURES["message"], _BY_HAND),
    )
    by_hand = {
        **_BY_HAND,
        input_items.ITEMS["message"]: strict,
        input_items.ITEMS["function_call_output"]: one_of(
            schema_of(input_items.CALL_OUTPUT, _BY_HAND), schema_of(input_items.NAMED_OUTPUT, _BY_HAND)
        ),
    }
    message = {"type": "object", "description": "A message. Its `type` may be left out.", **merged(strict, loose)}
    message["properties"] = {"type": {"const": "message"}, **message["properties"]}
    variants: list[Schema] = [message]
    for name, check in input_items.ITEMS.items():
        if name != "message":
            schema = schema_of(check, by_hand)
            variants += [of_type({"const": name}, each) for each in schema.get("anyOf", [schema])]
    other = of_type({"type": "string", "not": {"enum": [*input_items.ITEMS]}})
    other["description"] = "An item of another type, which upstream may know."
    return {"anyOf": [*variants, other, _bare()]}


def _bare() -> Schema:
    """An item that has an id and says nothing: the one that was stored under that id."""
    described_by = dict.fromkeys(sorted(input_items.DESCRIPTIVE - {"id"}), True)
    return {
        "type": "object",
        "description": "A reference: an id, and nothing else that says anything.",
        "properties": {"id": {"type": "string", "minLength": 1}, "summary": {"maxItems": 0}, **described_by},
        "required": ["id"],
        "additionalProperties": {"type": "null"},
    }
