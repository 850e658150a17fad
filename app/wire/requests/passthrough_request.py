"""Parse the calls that are relayed as they came: chat completions, embeddings, completions and moderations.

Only what the gateway acts on is checked: the model, what is asked, the limits of the output, and whether to stream.
All else is for upstream to judge, as servers differ too much.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from app.wire import error_messages, json_body
from app.wire.requests.value_checks import Check, array_of, boolean, either, integer, object_of, string

RelayedSurface: TypeAlias = Literal["chat", "embeddings", "completions", "moderations"]
"""A surface whose calls are relayed as they came."""

_LONGEST_LOGGED = 200
_MOST_ANSWERS = 128
_DEFAULT_MODERATION = b'"omni-moderation-latest"'
# What an estimate of tokens reads, beside what is asked.
_ESTIMATED = ("tools", "functions", "response_format", "service_tier")
# Members of a create call that mean the same here: no policy is about them.
_AS_IN_RESPONSES = frozenset(
    {
        *("frequency_penalty", "metadata", "parallel_tool_calls", "presence_penalty", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store"),
        *("temperature", "tool_choice", "tools", "top_logprobs", "top_p"),
    }
)


class _Rules(NamedTuple):
    """Say of a surface which member has what is asked, how that is checked, and which members limit the output."""

    given: str
    check: Check
    limits: tuple[str, ...] = ()


def _anything(_value: Any, _path: str) -> None:
    """Take any value."""


_TEXT_OR_LIST = either(
    "one of a string or array", {str: string(non_empty=True), list: array_of(_anything, non_empty=True)}
)
_RULES: Mapping[RelayedSurface, _Rules] = MappingProxyType(
    {
        "chat": _Rules(
            "messages",
            array_of(object_of(), non_empty=True),
            # A model that reasons takes the first alone, others know the second.
            ("max_completion_tokens", "max_tokens"),
        ),
        "completions": _Rules("prompt", _TEXT_OR_LIST, ("max_tokens",)),
        "embeddings": _Rules("input", _TEXT_OR_LIST),
        "moderations": _Rules("input", _TEXT_OR_LIST),
    }
)
_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "stream": boolean,
        "stream_options": object_of(optional={"include_usage": boolean}),
        "max_completion_tokens": integer(minimum=1),
        "max_tokens": integer(minimum=1),
        "n": integer(minimum=1, maximum=_MOST_ANSWERS),
    }
)


@dataclass(slots=True)
class PassthroughRequest:
    """Hold a valid call. `members` has its top-level values as they were sent, `fields` the same decoded.

    `is_large`: work on what is asked is for `app.runtime.compute_thread`. `cap` limits each answer's output, where the
    client does not: each upstream has its own member for that.
    """

    surface: RelayedSurface
    members: dict[str, json_body.Json]
    fields: dict[str, Any]
    is_large: bool = False
    cap: int | None = None
    model: str = field(init=False)
    stream: bool = field(init=False)

    def __post_init__(self) -> None:
        """Read once the members that are used again and again."""
        self.model = self.fields["model"]
        self.stream = self.fields.get("stream") is True and self.generates

    @property
    def generates(self) -> bool:
        """Tell whether the call has an output: what generates nothing streams nothing."""
        return bool(_RULES[self.surface].limits)

    @property
    def logged_model(self) -> str:
        """As much of the model's name as is logged and recorded."""
        return self.model[:_LONGEST_LOGGED]

    @property
    def size(self) -> int:
        """Return the bytes of what is asked."""
        return len(memoryview(self.members.get(_RULES[self.surface].given, b"")))

    @property
    def given(self) -> Any:
        """Return what is asked, for an estimate of its tokens."""
        return self.fields[_RULES[self.surface].given]

    @property
    def known(self) -> AbstractSet[str]:
        """Return the members that mean here what a policy takes them for."""
        rules = _RULES[self.surface]
        own = {"model", rules.given, "stream", "stream_options", "user", "n", *rules.limits}
        return own | _AS_IN_RESPONSES

    @property
    def output_member(self) -> str:
        """Return the member that limits the output: the one that was sent, else the one that is usual."""
        limits = _RULES[self.surface].limits
        return next((name for name in limits if self.fields.get(name) is not None), limits[0] if limits else "")

    @property
    def most_output(self) -> int | None:
        """Return the most tokens of all answers together, as asked for; None without a limit, 0 without output."""
        limits = _RULES[self.surface].limits
        asked = [self.fields[name] for name in limits if self.fields.get(name) is not None]
        if not limits:
            return 0
        return max(asked) * self.answers if asked else None

    @property
    def answers(self) -> int:
        """Return how many answers are asked for, each of at least one token: `n` to each of several prompts."""
        each: int = self.fields.get("n") or 1
        given = self.given
        if self.surface != "completions" or isinstance(given, str) or type(given[0]) is int:
            # A list of numbers is one prompt, in tokens.
            return each
        return each * len(given)

    @property
    def includes_usage(self) -> bool:
        """Tell whether the client asked for the usage of its stream."""
        options = self.fields.get("stream_options")
        return bool(options and options.get("include_usage"))

    def limit_output(self, most: int) -> None:
        """Limit the output of all answers together, as the client has not."""
        self.cap = max(1, most // self.answers)

    def release(self) -> None:
        """Drop the bytes and the decoded values."""
        self.members, self.fields = {}, {}


def parse_passthrough_request(surface: RelayedSurface, raw: bytes, max_depth: int) -> PassthroughRequest:
    """Parse and check the body of a call on this surface. InvalidRequestError (400) names the first fault."""
    rules = _RULES[surface]
    fields, members, is_large = json_body.read_object(
        raw, max_depth, (*_CHECKS, *_ESTIMATED, "model", "user"), rules.given
    )
    if surface == "moderations" and fields.get("model") is None:
        # The only surface whose model may be left out.
        fields["model"], members["model"] = _DEFAULT_MODERATION[1:-1].decode(), json_body.Json(_DEFAULT_MODERATION)
    if "model" not in fields:
        raise error_messages.missing("model")
    string(non_empty=True)(fields["model"], "model")
    if rules.given not in fields:
        raise error_messages.missing(rules.given)
    rules.check(fields[rules.given], rules.given)
    for name, check in _CHECKS.items():
        if (value := fields.get(name)) is not None:
            check(value, name)
    return PassthroughRequest(surface, members, fields, is_large)
