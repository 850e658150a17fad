"""How the limits of keys and projects are counted, as an operator says it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from app.settings_sources import SettingsGroup
from app.settings_urls import check_limits_url


class LimitsSettings(SettingsGroup):
    """How limits of keys and projects are counted. Budgets are always in the database."""

    env_names: ClassVar[Mapping[str, str]] = MappingProxyType({"url": "ANTIPHON_LIMITS_URL"})

    url: SecretStr | None = Field(
        None,
        description="Valkey or Redis URL (redis://, rediss:// or unix://) that counts minutes and streams; when unset "
        "PostgreSQL does, or the memory of the one process on SQLite.",
    )

    allow_unpriced_models: bool = Field(
        default=False,
        description="Whether keys with a budget in dollars may use models without a known price, uncharged.",
    )

    @field_validator("url")
    @classmethod
    def _known(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_limits_url(value.get_secret_value())
        return value
