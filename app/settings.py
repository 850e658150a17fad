"""The settings: every option with its default and limits, and the one function that reads them.

A Settings object that exists is valid. Where values are found is app.settings_sources' matter.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import ConfigurationError
from app.settings_sources import BROKEN, SettingsGroup, SettingsReader, Source
from app.settings_urls import LOOPBACK_OF, check_database_url, leads_to, split_url

_MIB = 1024 * 1024
_SECRET_LENGTH = 16
_OPENAI_HOST = "api.openai.com"


class ServerSettings(SettingsGroup):
    """The listening socket and the limits on what a client may send."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, description="Processes that serve; more than one needs PostgreSQL.")
    max_body_bytes: int = Field(64 * _MIB, ge=1, description="Largest request body taken.")
    max_json_depth: int = Field(64, ge=1, le=250, description="Deepest nesting of JSON taken in a request.")
    max_concurrent_requests: int = Field(2000, ge=1, description="Create calls in flight per process; more get a 503.")
    body_timeout_seconds: float = Field(30.0, gt=0, description="Time a client has to send its request body.")
    write_timeout_seconds: float = Field(60.0, gt=0, description="A client that reads nothing for this long is cut.")
    drain_seconds: float = Field(30.0, ge=0, description="Time live calls have to finish at shutdown.")
    websocket_idle_seconds: float = Field(600.0, gt=0, description="An idle WebSocket is closed after this time.")
    websocket_seconds: float = Field(3600.0, gt=0, description="Any WebSocket is closed after this time.")

    @property
    def local_host(self) -> str:
        """The host in a URL of this gateway on its own machine: loopback for every interface, IPv6 in brackets."""
        host = LOOPBACK_OF.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


class StorageSettings(SettingsGroup):
    """The data folder, the database and how long responses are kept."""

    env_names: ClassVar[Mapping[str, str]] = MappingProxyType({"database_url": "DATABASE_URL"})

    data_dir: Path = Field(Path("data"), description="Folder of the SQLite database and of generated secrets.")
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL or SQLite URL as your provider shows it; antiphon.db in the data folder when unset.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Keys the hashes of API keys, 16 characters or more; generated in the data folder when unset.",
    )
    retention_days: int = Field(30, ge=1, le=36500, description="Days a response is kept, unless its project says.")
    commit_timeout_seconds: float = Field(
        5.0, gt=0, description="Time a read or a write has before the client gets an error."
    )
    purge_interval_seconds: float = Field(300.0, gt=0, description="Pause between two sweeps of expired responses.")
    pool_size: int = Field(10, ge=1, description="Database connections per process that read; one more writes.")
    key_cache_seconds: float = Field(
        5.0,
        ge=0,
        le=5,
        description="Time a looked-up API key is trusted; another process's revocation takes this long.",
    )

    @field_validator("database_url")
    @classmethod
    def _known(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_database_url(value.get_secret_value())
        return value

    @field_validator("secret_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value) < _SECRET_LENGTH:
            raise ValueError(f"must have at least {_SECRET_LENGTH} characters; unset it to have one generated")
        return value

    @property
    def url(self) -> str:
        """The database's URL, password included: never log it."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'antiphon.db'}"
        return self.database_url.get_secret_value()

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file that only this process may write."""
        return self.url.startswith("sqlite")


class RelaySettings(SettingsGroup):
    """Calls to upstreams: their timeouts and limits."""

    connect_timeout_seconds: float = Field(5.0, gt=0, description="Time to connect to an upstream.")
    first_byte_timeout_seconds: float = Field(600.0, gt=0, description="Time an upstream has to begin its answer.")
    idle_timeout_seconds: float = Field(300.0, gt=0, description="Silence after which an answer is given up.")
    keep_alive_seconds: float = Field(
        25.0, ge=0, description="Silence after which a stream's client gets a comment line; 0 turns it off."
    )
    max_event_bytes: int = Field(32 * _MIB, ge=1, description="Largest single event of a stream.")
    max_answer_bytes: int = Field(64 * _MIB, ge=1, description="Largest whole answer; most that is held of a stream.")
    transport: Literal["native", "aiohttp"] = Field(
        "native",
        description="What speaks HTTP to upstreams: this gateway's own client, or aiohttp at three times the CPU.",
    )
    max_upstream_connections: int = Field(4000, ge=1, description="Open connections to upstreams per process.")
    models_cache_seconds: float = Field(300.0, ge=0, description="Time an upstream's list of models is reused.")
    cool_down_seconds: float = Field(
        10.0, gt=0, description="Rest of a rate-limited key without a Retry-After; one that fails otherwise goes last."
    )


class BackgroundSettings(SettingsGroup):
    """Responses in the background: how many at once, how long they wait and are kept."""

    background_runs: int = Field(64, ge=1, description="Background responses generated at once per process.")
    background_queue: int = Field(
        1000, ge=1, description="Background responses of a project that may be unfinished; more get a 429."
    )
    background_wait_seconds: float = Field(
        86_400.0, gt=0, description="Time a background response waits for a rate-limited key before it fails."
    )
    background_keep_seconds: int = Field(
        600, ge=1, description="Time a background response's events, and it if not stored, are kept past its end."
    )


class LoggingSettings(SettingsGroup):
    """The log on standard output."""

    env_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"level": "ANTIPHON_LOG_LEVEL", "format": "ANTIPHON_LOG_FORMAT"}
    )

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe lines that are kept.")
    format: Literal["json", "console"] = Field("json", description="A JSON object per line, or text for people.")


Endpoint: TypeAlias = Literal["compact", "input_tokens"]


class UpstreamSettings(BaseModel):
    """One upstream: where it is, the keys it takes and the models it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Its name in logs; unique.")
    base_url: str = Field(description="URL that /responses is appended to, such as https://api.openai.com/v1.")
    keys: tuple[SecretStr, ...] = Field(
        (), description="References, env:NAME or file:/path, each to one key or several with commas; empty for none."
    )
    models: tuple[str, ...] = Field(("*",), min_length=1, description="Globs of the model names it serves.")
    strip: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        (), description="Top-level request parameters it does not know; left out of what it is sent."
    )
    state: Literal["gateway", "upstream"] = Field(
        "gateway", description="Who keeps chains: this gateway, or the upstream with nothing rewritten."
    )
    endpoints: tuple[Endpoint, ...] | None = Field(
        None,
        description="Of compact and input_tokens those it has; the rest is done here. Unset: OpenAI both, others none.",
    )

    def offers(self, endpoint: Endpoint) -> bool:
        """Whether it has this endpoint below /responses."""
        if self.endpoints is None:
            return urlsplit(self.base_url).hostname == _OPENAI_HOST
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

    @field_validator("keys")
    @classmethod
    def _sendable(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        # A key becomes a header's value: a stray newline or quote from a paste would break every call.
        if not all(re.fullmatch(r"[\x21-\x7e]+", key.get_secret_value()) for key in value):
            raise ValueError("a key must be printable ASCII without spaces; put commas between keys")
        if len(set(value)) < len(value):
            raise ValueError("the same key is listed twice; remove one")
        return value


def _elsewhere(upstream: UpstreamSettings, info: ValidationInfo) -> UpstreamSettings:
    server: ServerSettings | None = info.data.get("server")
    if server is not None and leads_to(urlsplit(upstream.base_url), server.host, server.port):
        raise PydanticCustomError("loop", "is this gateway's own address; write the upstream's")
    return upstream


class Settings(BaseSettings):
    """Everything an operator can choose. Built directly it reads no environment; `load_settings` does."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Order matters: a field's check sees the fields above it, those that are valid.
    server: ServerSettings = Field(default_factory=ServerSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    relay: RelaySettings = Field(default_factory=RelaySettings)
    background: BackgroundSettings = Field(default_factory=BackgroundSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    upstreams: tuple[Annotated[UpstreamSettings, AfterValidator(_elsewhere)], ...] = ()

    @field_validator("storage")
    @classmethod
    def _one_writer(cls, value: StorageSettings, info: ValidationInfo) -> StorageSettings:
        server: ServerSettings | None = info.data.get("server")
        if server is not None and server.workers > 1 and value.is_sqlite:
            raise PydanticCustomError(
                "one_writer", "SQLite serves one process; set DATABASE_URL to a PostgreSQL database or this to 1"
            )
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature, as the three below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: the environment is read in one place, `load_settings`."""
        return (init_settings,)


def load_settings(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings, from flags (`{"port": 9000, "log_level": None}`; None is unset), environment and config file.

    Raises ConfigurationError with every problem found, one line each, and no secret in any of them.
    """
    variables = os.environ if environ is None else environ  # noqa: TID251 - the one place that reads the environment
    reader = SettingsReader(Settings, UpstreamSettings.model_fields, variables)
    sources = reader.sources(flags or {})
    try:
        settings = Settings(_build_sources=(sources, {}))
    except ValidationError as error:
        raise ConfigurationError(*_lines([*reader.problems, *_describe(error, sources)])) from None
    if reader.problems:
        raise ConfigurationError(*_lines(reader.problems))
    return settings


def _lines(problems: Sequence[str]) -> Iterator[str]:
    # Keys and paths are the user's own text and may hold line breaks.
    return (" ".join(problem.split()) for problem in problems)


def _describe(error: ValidationError, sources: Sequence[Source]) -> Iterator[str]:
    for detail in error.errors():
        if detail["input"] is not BROKEN:
            yield f"{_written_as(detail, sources)}: {detail['msg'].removeprefix('Value error, ')}."


def _written_as(detail: ErrorDetails, sources: Sequence[Source]) -> str:
    """The setting as the user wrote it, in the place that won."""
    # Checks that compare settings fail on the later one; the user is told of the one to change.
    path = {"one_writer": ("server", "workers"), "loop": (*detail["loc"], "base_url")}.get(
        detail["type"], detail["loc"]
    )
    for end in range(len(path), 0, -1):
        for source in sources:
            if path[:end] in source.names:
                return " ".join([source.names[path[:end]], *map(str, path[end:])])
    return ".".join(map(str, path))
