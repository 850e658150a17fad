"""What an operator says of an upstream and of its keys. Must not know where it is written, nor how a key is chosen."""

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from app.settings_urls import split_url

_OPENAI_HOST = "api.openai.com"
_HEADER_VALUE = r"^[\x21-\x7e]+$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_LONGEST_SECRET = 8192
_LONGEST_HEADER = 200
_LONGEST_URL = 2048
_LAST_TIER = 1000

# A string is no number, wherever it is written.
_Whole: TypeAlias = Annotated[int, Field(strict=True)]
_Model: TypeAlias = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]

Endpoint: TypeAlias = Literal["compact", "input_tokens"]


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
        # A key becomes a header's value: a stray newline or quote from a paste would break every call.
        if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("a key must be printable ASCII without spaces; put commas between keys")
        if len(value) > _LONGEST_SECRET:
            raise ValueError(f"a key has {_LONGEST_SECRET} characters at most")
        return value


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
    state: Literal["gateway", "upstream"] = Field(
        "gateway", description="Who keeps chains: this gateway, or the upstream with nothing rewritten."
    )
    validation: Literal["openai", "structural"] | None = Field(
        None,
        description="What requests are held to: OpenAI's own values and limits, or types and structure alone. "
        "Unset: OpenAI the first, others the second.",
    )
    endpoints: tuple[Endpoint, ...] | None = Field(
        None,
        description="Of compact and input_tokens those it has; the rest is done here. Unset: OpenAI both, others none.",
    )

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI itself."""
        return urlsplit(self.base_url).hostname == _OPENAI_HOST

    @property
    def is_strict(self) -> bool:
        """Whether its requests are held to OpenAI's own values and limits."""
        return self.is_openai if self.validation is None else self.validation == "openai"

    def offers(self, endpoint: Endpoint) -> bool:
        """Whether it has this endpoint below /responses."""
        return self.is_openai if self.endpoints is None else endpoint in self.endpoints

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        url = split_url(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be an http:// or https:// URL")
        if "@" in url.netloc or "?" in value or "#" in value or re.search(r"\s", value):
            raise ValueError("must have no credentials, query, fragment or spaces; a key belongs in keys")
        return value.rstrip("/")

    @field_validator("keys")
    @classmethod
    def _distinct(cls, value: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        if len({key.secret for key in value}) < len(value):
            raise ValueError("the same key is listed twice; remove one")
        return value


class AdministeredUpstream(UpstreamSettings):
    """One that administrators made, not the operator. It may not be everywhere (app.upstream.reach)."""
