"""Parse and check the body of POST /v1/responses in OpenAI's order; the request keeps its bytes.

Members that are not named here pass.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.errors import InvalidRequestError
from app.wire import error_messages, json_body
from app.wire.requests.field_rules import OPENAI_RULES, STRUCTURAL_RULES
from app.wire.requests.value_checks import Check, string

IsStrict: TypeAlias = Callable[[str | None], bool]
"""Tell whether a call of this model, or of any, must keep OpenAI's own rules. Called only where they are broken."""

MEMBERS = frozenset(OPENAI_RULES)
"""The known members, by their one spelling."""
_KNOWN = frozenset({*MEMBERS, "personality"})

_NEVER_NULL = ("model", "input")
_LONGEST_LOGGED = 200
NOT_COMPACTED = ("background", "conversation", "prompt", "stream")
PERSONALITY = string(maximum=64)


@dataclass(slots=True)
class CreateRequest:
    """Hold a valid request. `members` has its top-level values as they were sent, `fields` the same decoded.

    `input` is text or items, None where a prompt template brings its own; `model` is empty where that has one.
    `is_large`: work on the input is for `app.runtime.compute_thread`. `is_beta`: the query names OpenAI's beta.
    """

    model: str
    members: dict[str, json_body.Json]
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
        """Return the bytes of the input."""
        return len(memoryview(self.members.get("input", b"")))

    @property
    def logged_model(self) -> str:
        """As much of the model's name, which a client may make as long as it likes, as is logged and recorded."""
        return self.model[:_LONGEST_LOGGED]

    def __post_init__(self) -> None:
        """Read once the members that are used again and again."""
        given = self.fields.get
        self.input = given("input")
        self.store = given("store") is not False
        self.stream = given("stream") is True
        self.background = given("background") is True
        self.previous_response_id = given("previous_response_id")
        named = given("conversation")
        self.conversation_id = named["id"] if type(named) is dict else named

    @property
    def given(self) -> Any:
        """Return what is asked, for an estimate of its tokens."""
        return self.fields.get("input")

    @property
    def known(self) -> AbstractSet[str]:
        """Return the members that mean here what a policy takes them for."""
        return MEMBERS

    @property
    def output_member(self) -> str:
        """Return the member that limits the output."""
        return "max_output_tokens"

    @property
    def most_output(self) -> int | None:
        """Return the most tokens of the output that were asked for; None without a limit."""
        asked: int | None = self.fields.get("max_output_tokens")
        return asked

    @property
    def answers(self) -> int:
        """Return how many answers are asked for."""
        return 1

    def limit_output(self, most: int) -> None:
        """Limit the output, as the client has not."""
        self.fields["max_output_tokens"] = most
        self.members["max_output_tokens"] = json_body.Json(b"%d" % most)

    def release(self) -> None:
        """Drop the bytes and the decoded values; the members that were read once (`store`, `stream`, ...) stay."""
        self.members, self.fields, self.input = {}, {}, None


def strictly(_model: str | None) -> bool:
    """Hold every call to OpenAI's own rules."""
    return True


def structurally(_model: str | None) -> bool:
    """Hold every call to the rules of structure only."""
    return False


def parse_create_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Parse and check the body. InvalidRequestError (400) names the first fault in OpenAI's order."""
    fields, members, is_large = read_members(raw, max_depth)
    return check_create_request(fields, members, is_large=is_large, is_strict=is_strict)


def read_members(raw: bytes, max_depth: int) -> tuple[dict[str, Any], dict[str, json_body.Json], bool]:
    """Parse the members of a body, decoded and as sent, and tell if it is large. Raises InvalidRequestError."""
    return json_body.read_object(raw, max_depth, _KNOWN, "input")


def check_create_request(
    fields: dict[str, Any],
    members: dict[str, json_body.Json],
    *,
    is_large: bool,
    is_strict: IsStrict,
    generates: bool = True,
) -> CreateRequest:
    """Check these members, decoded and as sent. A request that `generates` nothing needs no input."""
    _check_presence(fields, generates=generates)
    model = fields.get("model")
    _check_fields(fields, _NEVER_NULL if model is not None or fields.get("prompt") is None else ("input",), is_strict)
    _check_history(fields, generates=generates)
    return CreateRequest(model=model or "", members=members, fields=fields, is_large=is_large)


def parse_compact_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Parse and check the body of POST /v1/responses/compact."""
    fields, members, is_large = read_members(raw, max_depth)
    if "model" not in fields:
        raise error_messages.missing("model")
    for name in NOT_COMPACTED:
        if fields.get(name):
            raise error_messages.unsupported(name, "by this endpoint")
    _check_fields(fields, ("model",), is_strict)
    _check_history(fields, generates=True)
    return CreateRequest(model=fields["model"], members=members, fields=fields, is_large=is_large)


def parse_count_request(raw: bytes, max_depth: int, is_strict: IsStrict = strictly) -> CreateRequest:
    """Parse and check the body of POST /v1/responses/input_tokens, in which everything may be left out."""
    fields, members, is_large = read_members(raw, max_depth)
    _check_fields(fields, (), is_strict)
    if fields.get("personality") is not None:
        PERSONALITY(fields["personality"], "personality")
    _check_history(fields, generates=False)
    model = fields.get("model") or ""
    return CreateRequest(model=model, members=members, fields=fields, is_large=is_large)


def _check_fields(fields: Mapping[str, Any], never_null: Collection[str], is_strict: IsStrict) -> None:
    try:
        _check_each(fields, never_null, OPENAI_RULES)
    except InvalidRequestError:
        model = fields.get("model")
        rules = OPENAI_RULES if is_strict(model if isinstance(model, str) else "") else STRUCTURAL_RULES
        # Of several faults the first in OpenAI's order is reported; only a faulty body has to be ordered.
        _check_each({name: fields[name] for name in rules if name in fields}, never_null, rules)


def _check_each(fields: Mapping[str, Any], never_null: Collection[str], rules: Mapping[str, Check]) -> None:
    for name, value in fields.items():
        if (value is not None or name in never_null) and (check := rules.get(name)) is not None:
            check(value, name)


def _check_presence(fields: Mapping[str, Any], *, generates: bool) -> None:
    # A prompt template may bring the model and the input.
    has_prompt = fields.get("prompt") is not None
    if "model" not in fields and not has_prompt:
        raise error_messages.missing("model")
    if "input" in fields or not generates:
        return
    if "messages" in fields:
        raise error_messages.moved("messages", "input")
    if not has_prompt:
        raise error_messages.missing("input")


def _check_history(fields: Mapping[str, Any], *, generates: bool) -> None:
    """Check that the request continues one history at most, and has something to answer."""
    previous, conversation = fields.get("previous_response_id"), fields.get("conversation")
    if previous is not None and conversation is not None:
        raise error_messages.two_histories()
    if not generates or fields.get("input"):
        return
    if previous is None and conversation is None and fields.get("prompt") is None:
        raise InvalidRequestError(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
            code="missing_required_parameter",
        )
