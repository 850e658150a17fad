"""Define the settings of rate limits, budgets and idempotency keys."""

import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from app.settings.sources import SettingsGroup
from app.settings.urls import check_limits_url

_MIB = 1024 * 1024


class LimitsSettings(SettingsGroup):
    """How limits of keys and projects are counted. Budgets are always in the database."""

    env_names: ClassVar[Mapping[str, str]] = MappingProxyType({"url": "ANTIPHON_LIMITS_URL"})

    url: SecretStr | None = Field(
        None,
        description="Valkey or Redis URL (redis://, rediss:// or unix://) that counts minutes and streams, with the "
        "package extra `redis`; when unset PostgreSQL does, or the memory of the one process on SQLite.",
    )

    allow_unpriced_models: bool = Field(
        default=False,
        description="Whether keys with a budget in dollars may use models without a known price, uncharged.",
    )

    idempotency_keys: int = Field(
        100_000, ge=1, description="Idempotency keys that a project may use within 24 hours; one more gets a 429."
    )
    idempotency_bytes: int = Field(
        1024 * _MIB,
        ge=0,
        description="Bytes of a project's answers that are kept for repeats within 24 hours; of more only the fact is.",
    )

    @field_validator("url")
    @classmethod
    def _known(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_limits_url(value.get_secret_value())
            # Now, so that the start says it, and not the first call of a limited key.
            if find_spec("redis") is None:
                raise ValueError(
                    "needs a package that is not installed; run "
                    f"{shlex.quote(sys.executable)} -m pip install 'antiphon[redis]', or unset it"
                )
        return value
