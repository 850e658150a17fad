"""List the settings in effect for administrators, each with its source, secrets masked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from app.settings.gateway import Settings
from app.settings.sources import settings_of

_MASK = "***"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """Hold a setting by its name in the config file ("server.port"). `source` is the operator's name, or "default".

    A secret that is set is "***", one that is not is None.
    """

    name: str
    value: Any
    source: str


def effective(settings: Settings, latest: Settings) -> list[EffectiveSetting]:
    """List every setting, in the order of the documentation; then the upstreams of the configuration, and prices.

    `settings` are those of the process's start; upstreams come from the `latest` that it has read.
    """
    rows = [
        EffectiveSetting(
            f"{setting.group}.{setting.field}",
            _plain(getattr(getattr(settings, setting.group), setting.field)),
            settings.names.get((setting.group, setting.field), _DEFAULT),
        )
        for setting in settings_of(Settings)
    ]
    return [*rows, *_listed(latest, "upstreams"), *_listed(settings, "prices")]


def _listed(settings: Settings, group: str) -> Iterator[EffectiveSetting]:
    for place, row in enumerate(getattr(settings, group)):
        whole = settings.names.get((group, place), _DEFAULT)
        for field in type(row).model_fields:
            source = settings.names.get((group, place, field), whole) if field in row.model_fields_set else _DEFAULT
            yield EffectiveSetting(f"{group}.{place}.{field}", _plain(getattr(row, field)), source)


def _plain(value: object) -> Any:
    """Convert a value to JSON's types; masks any secret inside."""
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
