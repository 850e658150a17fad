"""The body of POST /v1/responses: read, checked in OpenAI's order, and kept as it was sent.

Must not know what upstream or the store make of it. A key this module does not name passes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.errors import InvalidRequestError
from app.wire import body, wording
from app.wire.fields import Check, string
from app.wire.request_fields import OPENAI_RULES, STRUCTURAL_RULES

IsStrict: TypeAlias = Callable[[str | None], bool]
"""Whether a call of this model, or of any, is held to OpenAI's own rules. It is asked only where they are broken."""

MEMBERS = frozenset(OPENAI_RULES)
"""The members that are known here, by their one spelling."""
_KNOWN = frozenset({*MEMBERS, "personality"})

_NEVER_NULL = ("model", "input")
_NOT_COMPACTED = ("background", "conversation", "prompt", "stream")
_PERSONALITY = string(maximum=64)


@dataclass(slots=True)
class CreateRequest:
    """A valid request. `members` holds its top-level values as they were sent, `fields` the same decoded.

    `input` is text or items, None where a prompt template brings its own; `model` is empty where it brings that.
    `is_large`: work on the input is for `app.offload`. `is_beta`: it is one of OpenAI's beta, which its query names.
    """

    model: str
    members: dict[str, body.Json]
    fields: dict[str, Any]
    is_large: bool = False
    is_beta: bool = False
    input: str | Sequence[Any] | None = field(init=False)
    store: bool = field(init=False)
    stream: bool = field(init=False)
    background: bool = field(init=False)
    previous_response_id: str | None = field(init=False)
    conversation_id: str | None = field(init=False)

    @property
    def size(self) -> int:
        """What its input weighs, in bytes."""
        return len(memoryview(self.members.get("input", b"")))

    def __post_init__(self) -> None:
        """Read once what is asked for again and again."""
        given = self.fields.get
        self.input = given("input")
        self.store = given("store") is not False
        self.stream = given("stream") is True
        self.background = given("background") is True
        self.previous_response_id = given("previous_response_id")
        named = given("conversation")
        self.conversation_id = named["id"] if type(named) is dict else named


def strictly(_model: str | None) -> bool:
    """Hold every call to OpenAI's own rules."""
    return True


def structurally(_model: str | None) -> bool:
    """Hold no call to more than the rules of structure."""
    return False


def parse_create_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Read and check the body. InvalidRequestError (400) names the first fault, in the order OpenAI looks for them."""
    fields, members, is_large = read_members(raw, max_depth)
    return check_create_request(fields, members, is_large=is_large, is_strict=is_strict)


def read_members(raw: bytes, max_depth: int) -> tuple[dict[str, Any], dict[str, body.Json], bool]:
    """The members of a body, decoded and as sent, before they are checked; and if it is large. InvalidRequestError."""
    return body.read_object(raw, max_depth, _KNOWN, "input")


def check_create_request(
    fields: dict[str, Any],
    members: dict[str, body.Json],
    *,
    is_large: bool,
    is_strict: IsStrict,
    generates: bool = True,
) -> CreateRequest:
    """The request of these members, decoded and as sent. One that `generates` nothing needs nothing to answer."""
    _check_presence(fields, generates=generates)
    model = fields.get("model")
    _check_fields(fields, _NEVER_NULL if model is not None or fields.get("prompt") is None else ("input",), is_strict)
    _check_history(fields, generates=generates)
    return CreateRequest(model=model or "", members=members, fields=fields, is_large=is_large)


def parse_compact_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Read and check the body of POST /v1/responses/compact, as that of a call that answers nothing."""
    fields, members, is_large = read_members(raw, max_depth)
    if "model" not in fields:
        raise wording.missing("model")
    for name in _NOT_COMPACTED:
        if fields.get(name):
            raise wording.unsupported(name, "by this endpoint")
    _check_fields(fields, ("model",), is_strict)
    _check_history(fields, generates=True)
    return CreateRequest(model=fields["model"], members=members, fields=fields, is_large=is_large)


def parse_count_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Read and check the body of POST /v1/responses/input_tokens, in which everything may be left out."""
    fields, members, is_large = read_members(raw, max_depth)
    _check_fields(fields, (), is_strict)
    if fields.get("personality") is not None:
        _PERSONALITY(fields["personality"], "personality")
    _check_history(fields, generates=False)
    model = fields.get("model") or ""
    return CreateRequest(model=model, members=members, fields=fields, is_large=is_large)


def _check_fields(fields: Mapping[str, Any], never_null: Collection[str], is_strict: IsStrict) -> None:
    try:
        _check_each(fields, never_null, OPENAI_RULES)
    except InvalidRequestError:
        model = fields.get("model")
        rules = OPENAI_RULES if is_strict(model if isinstance(model, str) else "") else STRUCTURAL_RULES
        # Of several faults the one is told that stands first in OpenAI's order; the usual body has none to order.
        _check_each({name: fields[name] for name in rules if name in fields}, never_null, rules)


def _check_each(fields: Mapping[str, Any], never_null: Collection[str], rules: Mapping[str, Check]) -> None:
    for name, value in fields.items():
        if (value is not None or name in never_null) and (check := rules.get(name)) is not None:
            check(value, name)


def _check_presence(fields: Mapping[str, Any], *, generates: bool) -> None:
    # A prompt template may bring the model and the input.
    has_prompt = fields.get("prompt") is not None
    if "model" not in fields and not has_prompt:
        raise wording.missing("model")
    if "input" in fields or not generates:
        return
    if "messages" in fields:
        raise wording.moved("messages", "input")
    if not has_prompt:
        raise wording.missing("input")


def _check_history(fields: Mapping[str, Any], *, generates: bool) -> None:
    """Where the context comes from: one history at most, and something to answer."""
    previous, conversation = fields.get("previous_response_id"), fields.get("conversation")
    if previous is not None and conversation is not None:
        raise wording.two_histories()
    if not generates or fields.get("input"):
        return
    if previous is None and conversation is None and fields.get("prompt") is None:
        raise InvalidRequestError(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
            code="missing_required_parameter",
        )
