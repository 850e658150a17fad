"""Define and validate the settings of an upstream, of its keys, and of what it takes where it speaks chat."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from app.settings.urls import split_url

_OPENAI_HOST = "api.openai.com"
_HEADER_VALUE = r"^[\x21-\x7e]+$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_LONGEST_SECRET = 8192
_LONGEST_HEADER = 200
_LONGEST_URL = 2048
_LAST_TIER = 1000

# Strict: a string is no number.
_Whole: TypeAlias = Annotated[int, Field(strict=True)]
_Model: TypeAlias = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]

_Parameter: TypeAlias = Annotated[str, Field(max_length=64, pattern=r"^\w+$")]
_Effort: TypeAlias = Annotated[str, Field(max_length=32, pattern=r"^[\w-]+$")]

Endpoint: TypeAlias = Literal["compact", "input_tokens"]
Surface: TypeAlias = Literal["responses", "chat", "embeddings", "completions", "moderations"]

SURFACES: Mapping[Surface, str] = MappingProxyType(
    {
        "responses": "/responses",
        "chat": "/chat/completions",
        "embeddings": "/embeddings",
        "completions": "/completions",
        "moderations": "/moderations",
    }
)
"""Each surface's path below the base URL: a client's at the gateway, and the gateway's at an upstream."""


class KeySettings(BaseModel):
    """One key of an upstream, or several that are alike. Caps hold in each process of the gateway on its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    secret: SecretStr = Field(
        description="A reference, env:NAME or file:/path, to one key or to several with commas between them."
    )
    name: str | None = Field(None, pattern=_NAME, description="What administrators are shown of it.")
    weight: float = Field(
        1.0, strict=True, gt=0, description="Its share of the calls beside those of the keys of its tier."
    )
    tier: _Whole | None = Field(
        None,
        ge=0,
        le=_LAST_TIER,
        description="Keys of a tier are used while none of a lower tier can be; the upstream's if unset.",
    )
    organization: str | None = Field(
        None, max_length=_LONGEST_HEADER, pattern=_HEADER_VALUE, description="Sent as OpenAI-Organization."
    )
    project: str | None = Field(
        None, max_length=_LONGEST_HEADER, pattern=_HEADER_VALUE, description="Sent as OpenAI-Project."
    )
    requests_per_minute: _Whole | None = Field(
        None, ge=1, le=1_000_000, description="Calls begun in a minute, per process."
    )
    tokens_per_minute: _Whole | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Tokens used per minute, per process; they are counted when an answer ends.",
    )
    concurrency: _Whole | None = Field(None, ge=1, le=1_000_000, description="Calls in flight at once, per process.")
    quota_group: str | None = Field(
        None,
        pattern=_NAME,
        description="Keys of a group share upstream's limit: when one is limited, all of them rest.",
    )

    @field_validator("secret")
    @classmethod
    def _sendable(cls, value: SecretStr) -> SecretStr:
        # A key becomes a header's value: a pasted newline or quote would break every call.
        if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("a key must be printable ASCII without spaces; put commas between keys")
        if len(value) > _LONGEST_SECRET:
            raise ValueError(f"a key has {_LONGEST_SECRET} characters at most")
        return value


class ChatProfile(BaseModel):
    """Say what a chat completions server takes and sends; what is not said is known by its host."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="Its name for max_output_tokens."
    )
    system_role: Literal["system", "developer"] = Field("system", description="The role of instructions.")
    system_position: Literal["first", "inline"] = Field(
        "first", description="Instructions and system messages: one message in front, or each where it stands."
    )
    reasoning_in: Literal["auto", "reasoning_content", "reasoning", "reasoning_details"] = Field(
        "auto", description="The member of a replayed message that has the reasoning; auto: the one that it came in."
    )
    reasoning_replay: Literal["never", "with_tool_calls", "always"] = Field(
        "with_tool_calls", description="The assistant messages that carry their reasoning back."
    )
    fills_reasoning: bool = Field(
        default=False,
        description="Whether a replayed message with tool calls and no known reasoning says that it is empty.",
    )
    reasoning_as: Literal["summary", "text", "hidden"] = Field(
        "summary", description="How clients see reasoning: as a summary, as reasoning text, or encrypted alone."
    )
    effort_as: Literal["reasoning_effort", "reasoning.effort", "thinking", "chat_template_kwargs", "none"] = Field(
        "reasoning_effort", description="The one member that reasoning.effort becomes."
    )
    effort_map: dict[_Effort, _Effort] = Field(
        {"minimal": "low", "xhigh": "high", "max": "high"},
        description="Its names of efforts, by OpenAI's; others are sent as they are.",
    )
    think_tags: Literal["off", "on", "starts_open"] = Field(
        "off", description="Whether <think> in the text begins reasoning; starts_open: the text begins within it."
    )
    include_usage: bool = Field(default=True, description="Whether a stream is asked for its usage.")
    json_schema: Literal["native", "json_object", "none"] = Field(
        "native", description="Structured output: enforced, JSON with the schema in the instructions, or none."
    )
    images: bool = Field(default=True, description="Whether users' messages may have images.")
    files: bool = Field(default=False, description="Whether users' messages may have files, as data.")
    audio: bool = Field(default=False, description="Whether users' messages may have audio.")
    logprobs: bool = Field(default=False, description="Whether it offers log probabilities.")
    tool_result_images: Literal["user_message", "drop_with_note", "refuse", "native"] = Field(
        "user_message", description="Images that tools return: in a user's message behind, left out, refused, as parts."
    )
    null_content: Literal["null", "omit", "empty"] = Field(
        "null", description="The content of an assistant message that has tool calls alone."
    )
    call_id_form: Literal["any", "mistral9"] = Field(
        "any", description="The form of tool call ids; mistral9: nine letters or digits."
    )
    tool_choice: Literal["full", "auto_only"] = Field(
        "full", description="Whether a call may be demanded; auto_only: that is refused."
    )
    hosted_tools: Literal["auto", "drop", "refuse"] = Field(
        "auto", description="Tools that only OpenAI runs; auto: dropped beside other tools unless chosen, else refused."
    )
    passes: tuple[_Parameter, ...] = Field(
        (), description="Parameters it knows that are no part of the translation, sent as they are: user, seed, …"
    )
    omit: tuple[_Parameter, ...] = Field((), description="Chat parameters that it is never sent.")
    extra_body: dict[str, Any] = Field({}, description="Further members of every request; no secrets.")

    @model_serializer
    def given(self) -> dict[str, Any]:
        """Return what was said, and not the defaults: what a host is known for would be lost behind them."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _bare(value: object) -> object:
    return {"secret": value} if isinstance(value, str | SecretStr) else value


class UpstreamSettings(BaseModel):
    """One upstream: where it is, the keys it takes and the models it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Its name in logs; unique.")
    base_url: str = Field(
        max_length=_LONGEST_URL, description="URL that /responses is appended to, such as https://api.openai.com/v1."
    )
    keys: tuple[Annotated[KeySettings, BeforeValidator(_bare)], ...] = Field(
        (), description="References, env:NAME or file:/path, or tables as below; without any, calls carry no key."
    )
    tier: _Whole | None = Field(
        None,
        ge=0,
        le=_LAST_TIER,
        description="Its keys are used while none of a lower tier can be; its place in the file, from 0, if unset.",
    )
    models: tuple[_Model, ...] = Field(("*",), min_length=1, description="Globs of the model names it serves.")
    aliases: dict[_Model, _Model] = Field(
        {}, description="Its own names of models, by the names that clients ask for; answers are relayed as they are."
    )
    strip: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        (), description="Top-level request parameters it does not know; left out of what it is sent."
    )
    api: Literal["responses", "chat"] = Field(
        "responses", description="What it speaks: the Responses API, or chat completions alone."
    )
    chat: ChatProfile | None = Field(
        None, description="What a chat upstream takes and sends, a table as below, where its host does not tell."
    )
    state: Literal["gateway", "upstream"] = Field(
        "gateway", description="Who keeps chains: this gateway, or the upstream with nothing rewritten."
    )
    validation: Literal["openai", "structural"] | None = Field(
        None,
        description="What requests are held to: OpenAI's own values and limits, or types and structure alone. "
        "Unset: OpenAI the first, others the second.",
    )
    serves: tuple[Surface, ...] | None = Field(
        None,
        min_length=1,
        description="What it is asked for: responses, chat, embeddings, completions, moderations; all if unset.",
    )
    endpoints: tuple[Endpoint, ...] | None = Field(
        None,
        description="Of compact and input_tokens those it has; the rest is done here. Unset: OpenAI both, others none.",
    )

    @property
    def is_openai(self) -> bool:
        """Tell whether the upstream is OpenAI itself."""
        return urlsplit(self.base_url).hostname == _OPENAI_HOST

    @property
    def is_strict(self) -> bool:
        """Tell whether its requests are validated by OpenAI's own values and limits."""
        return self.is_openai if self.validation is None else self.validation == "openai"

    @property
    def is_translated(self) -> bool:
        """Tell whether calls are translated to another API: what is sealed here is for such an upstream alone."""
        return self.api != "responses"

    def offers(self, endpoint: Endpoint) -> bool:
        """Tell whether the upstream has this endpoint below /responses."""
        if self.endpoints is None:
            return self.is_openai and not self.is_translated
        return endpoint in self.endpoints

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        url = split_url(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be an http:// or https:// URL")
        if "@" in url.netloc or "?" in value or "#" in value or re.search(r"\s", value):
            raise ValueError("must have no credentials, query, fragment or spaces; a key belongs in keys")
        return value.rstrip("/")

    @field_validator("chat", "state", "endpoints")
    @classmethod
    def _fits_api(cls, value: object, info: ValidationInfo) -> object:
        is_chat = info.data.get("api") == "chat"
        if info.field_name == "chat":
            if value is not None and not is_chat:
                raise ValueError('is for an upstream whose api is "chat"')
        elif is_chat and value not in ("gateway", None, ()):
            raise ValueError("is not for a chat upstream, which keeps nothing and has no further endpoints")
        return value

    @field_validator("keys")
    @classmethod
    def _distinct(cls, value: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        if len({key.secret for key in value}) < len(value):
            raise ValueError("the same key is listed twice; remove one")
        return value


class AdministeredUpstream(UpstreamSettings):
    """Mark an upstream that administrators made, not the operator: the egress policy limits its addresses."""
