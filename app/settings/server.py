"""Define the settings of the server: where it listens, which proxies it trusts, what it accepts and holds."""

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from app.settings.sources import SettingsGroup
from app.settings.urls import LOOPBACK_OF, check_networks, is_loopback

_MIB = 1024 * 1024
_SECRET_LENGTH = 16
_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")


class ServerSettings(SettingsGroup):
    """The listening socket and the limits on what a client may send."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, description="Processes that serve; more than one needs PostgreSQL.")
    max_body_bytes: int = Field(64 * _MIB, ge=1, description="Largest request body taken.")
    max_json_depth: int = Field(64, ge=1, le=250, description="Deepest nesting of JSON taken in a request.")
    max_concurrent_requests: int = Field(
        2000, ge=1, description="Calls in flight per process, and listeners; else a 503."
    )
    body_timeout_seconds: float = Field(
        30.0, gt=0, description="A request body of which nothing comes for so long ends."
    )
    min_body_rate: int = Field(1024, ge=0, description="Bytes a second that a body has to bring on average after that.")
    write_timeout_seconds: float = Field(60.0, gt=0, description="A client that reads nothing for this long is cut.")
    shutdown_grace_seconds: float = Field(
        4.0, ge=0, description="Time /readyz says no at SIGTERM before new connections are; longer than proxies check."
    )
    drain_seconds: float = Field(30.0, ge=0, description="Time live calls have to finish at shutdown.")
    websocket_idle_seconds: float = Field(600.0, gt=0, description="An idle WebSocket is closed after this time.")
    websocket_seconds: float = Field(3600.0, gt=0, description="Any WebSocket is closed after this time.")
    surfaces: tuple[Literal["chat", "embeddings", "completions", "moderations"], ...] = Field(
        ("chat", "embeddings"),
        description="What is served beside responses: chat, embeddings, completions, moderations, with commas between; "
        "a key needs the scope of that name.",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins whose pages in a browser may call the gateway (https://app.example), with commas between; "
        "* for all. Cookies are never taken.",
    )
    admin_key: SecretStr | None = Field(
        None, description="The master key of administration, 16 characters or more; beside it there are admin API keys."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Networks of the proxies in front, with commas between; client_address_header is believed of them.",
    )

    @field_validator("admin_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value) < _SECRET_LENGTH:
            raise ValueError(f"must have at least {_SECRET_LENGTH} characters; try `openssl rand -hex 32`")
        return value

    @field_validator("surfaces", "cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_networks(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("an origin is a scheme, a host and perhaps a port, as in https://app.example")
        return value

    @property
    def is_local(self) -> bool:
        """Tell whether this machine alone reaches the gateway."""
        return is_loopback(self.host)

    @property
    def local_host(self) -> str:
        """Return the host for a URL on this machine: loopback for every interface, IPv6 in brackets."""
        host = LOOPBACK_OF.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


class AccessSettings(SettingsGroup):
    """Where clients come from, and how many wrong API keys they may try."""

    client_address_header: str | None = Field(
        None,
        description="The one header in which trusted_proxies tell a client's address: `x-forwarded-for`, `forwarded`, "
        "or one with a single address such as `x-real-ip` or `cf-connecting-ip`. When unset, clients behind them have "
        "no address, and keys that are bound to networks are refused.",
    )
    failed_keys_per_minute: int = Field(
        60,
        ge=1,
        description="Wrong API keys that one address (an IPv6 /64 is one) may try per minute and process; "
        "then keys that the process does not know yet get a 429.",
    )

    @field_validator("client_address_header")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not _HEADER_NAME.fullmatch(value := value.lower()):
            raise ValueError("must be the name of one header, such as x-forwarded-for")
        return value


class MemorySettings(SettingsGroup):
    """Bound the bytes that a process holds of calls at once; their number is the server's matter."""

    max_buffered_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes held for calls per process: bodies, histories, answers. More wait, then get a 503. "
        "A quarter of the memory there is by the workers, from 32 MB to 384 MB, when unset.",
    )
    max_context_bytes: int = Field(
        192 * _MIB, ge=1, description="Largest history with its new input that is sent upstream; more get a 400."
    )
    admission_wait_seconds: float = Field(
        10.0, ge=0, description="Time a call waits for a place, or for bytes of the budget, before it gets a 503."
    )
