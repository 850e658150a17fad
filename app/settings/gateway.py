"""Define the settings, every option with its default and limits, and read them by `load_settings`.

A Settings object that exists is valid. `app.settings.sources` finds the values.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import ConfigurationError
from app.settings.background import BackgroundSettings
from app.settings.errors import described, lines
from app.settings.limits import LimitsSettings
from app.settings.prices import PriceSettings
from app.settings.server import AccessSettings, MemorySettings, ServerSettings
from app.settings.sources import SettingsGroup, SettingsReader
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.settings.urls import check_database_url, leads_to

_MIB = 1024 * 1024
_SECRET_LENGTH = 16


def _split(secrets: SecretStr) -> list[str]:
    return [secret.strip() for secret in secrets.get_secret_value().split(",")]


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
    previous_secret_keys: SecretStr | None = Field(
        None,
        description="What secret_key was before, with commas between; without it nothing more is written under that.",
    )
    retention_days: int = Field(30, ge=1, le=36500, description="Days a response is kept, unless its project says.")
    conversation_days: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="Days a conversation is kept after its last change, unless its project says; retention_days "
        "when unset.",
    )
    usage_days: int = Field(400, ge=1, le=36500, description="Days a call's entry in the ledger is kept.")
    commit_timeout_seconds: float = Field(
        5.0, gt=0, description="Time a call's reads and writes have together before the client gets an error."
    )
    purge_interval_seconds: float = Field(300.0, gt=0, description="Pause between two sweeps of expired responses.")
    pool_size: int = Field(
        10, ge=1, description="Database connections per process that read; one more writes, on PostgreSQL two."
    )
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

    @field_validator("previous_secret_keys")
    @classmethod
    def _each_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(len(secret) < _SECRET_LENGTH for secret in _split(value)):
            raise ValueError(f"must have at least {_SECRET_LENGTH} characters each, with commas between them")
        return value

    @property
    def previous_secrets(self) -> tuple[bytes, ...]:
        """Return the master secrets before the present one."""
        return () if self.previous_secret_keys is None else tuple(map(str.encode, _split(self.previous_secret_keys)))

    @property
    def url(self) -> str:
        """Return the database's URL, password included: never log it."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'antiphon.db'}"
        return self.database_url.get_secret_value()

    @property
    def is_sqlite(self) -> bool:
        """Tell whether the database is SQLite: a file that only this process may write."""
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
    max_upstream_connections: int = Field(
        4000,
        ge=1,
        description="Open connections to upstreams per process; as many more to those that administrators made.",
    )
    models_cache_seconds: float = Field(300.0, ge=0, description="Time an upstream's list of models is reused.")
    cool_down_seconds: float = Field(
        10.0, gt=0, description="Rest of a rate-limited key without a Retry-After; one that fails otherwise goes last."
    )
    pool_wait_seconds: float = Field(
        15.0, ge=0, description="Time a call waits for a key when all are limited or busy, if one is back so soon."
    )
    allow_private_upstreams: bool = Field(
        default=False,
        description="Whether upstreams that administrators make may be in private networks or on this machine; "
        "those of the config file may.",
    )
    max_waiting_calls: int = Field(1000, ge=1, description="Calls that wait for a key per process; more get a 429.")


class LoggingSettings(SettingsGroup):
    """The log on standard output."""

    env_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"level": "ANTIPHON_LOG_LEVEL", "format": "ANTIPHON_LOG_FORMAT"}
    )

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe lines that are kept.")
    format: Literal["json", "console"] = Field("json", description="A JSON object per line, or text for people.")


def _elsewhere(upstream: UpstreamSettings, info: ValidationInfo) -> UpstreamSettings:
    server: ServerSettings | None = info.data.get("server")
    if server is not None and leads_to(urlsplit(upstream.base_url), server.host, server.port):
        raise PydanticCustomError("loop", "is this gateway's own address; write the upstream's")
    return upstream


class Settings(BaseSettings):
    """Hold every option of the operator. Built directly it reads no environment; `load_settings` does."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Order matters: a field's validator sees the valid fields above it.
    server: ServerSettings = Field(default_factory=ServerSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    relay: RelaySettings = Field(default_factory=RelaySettings)
    background: BackgroundSettings = Field(default_factory=BackgroundSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    upstreams: tuple[Annotated[UpstreamSettings, AfterValidator(_elsewhere)], ...] = ()
    prices: tuple[PriceSettings, ...] = ()

    _names: dict[tuple[int | str, ...], str] = PrivateAttr(default_factory=dict)
    _flags: dict[str, object] = PrivateAttr(default_factory=dict)

    @property
    def names(self) -> Mapping[tuple[int | str, ...], str]:
        """Return the operator's name of each setting that is not left at its default, by its path."""
        return self._names

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
        """Take arguments only: `load_settings` alone reads the environment."""
        return (init_settings,)


def load_settings(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from flags (`{"port": 9000, "log_level": None}`; None is unset), environment and config file.

    Raises ConfigurationError with every problem found, one line each, and no secret in any of them.
    """
    variables = os.environ if environ is None else environ  # noqa: TID251 - the one place that reads the environment
    reader = SettingsReader(Settings, UpstreamSettings.model_fields, KeySettings.model_fields, variables)
    sources = reader.sources(flags or {})
    try:
        settings = Settings(_build_sources=(sources, {}))
    except ValidationError as error:
        raise ConfigurationError(*lines([*reader.problems, *described(error, sources)])) from None
    if reader.problems:
        raise ConfigurationError(*lines(reader.problems))
    for source in reversed(sources):
        settings._names.update(source.names)  # noqa: SLF001 - built here
    settings._flags.update(flags or {})  # noqa: SLF001 - idem
    return settings


def read_again(settings: Settings) -> Settings:
    """Read the settings again with the flags of these. Raises as `load_settings` does."""
    return load_settings(settings._flags)  # noqa: SLF001 - idem
