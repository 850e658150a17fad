"""How the gateway tells where clients come from, and what it lets them try, as an operator says it."""

import re

from pydantic import Field, field_validator

from app.settings_sources import SettingsGroup

_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")


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
