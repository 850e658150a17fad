"""The settings that are in effect, as administrators see them: where each comes from, and no secret."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr

from app.settings import Settings
from app.settings_sources import settings_of

_MASK = "***"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting by its name in the config file ("server.port"). `source` is as the operator wrote it, or "default".

    A secret that is set is "***", one that is not is None.
    """

    name: str
    value: Any
    source: str


def effective(settings: Settings, latest: Settings) -> list[EffectiveSetting]:
    """Every setting, in the order of the documentation; then the upstreams of the configuration, and prices.

    Those that the process started with, but for the upstreams: they are those of the `latest` that it read.
    """
    shown = [
        EffectiveSetting(
            f"{setting.group}.{setting.field}",
            _plain(getattr(getattr(settings, setting.group), setting.field)),
            settings.names.get((setting.group, setting.field), _DEFAULT),
        )
        for setting in settings_of(Settings)
    ]
    return [*shown, *_listed(latest, "upstreams"), *_listed(settings, "prices")]


def _listed(settings: Settings, group: str) -> Iterator[EffectiveSetting]:
    for place, row in enumerate(getattr(settings, group)):
        whole = settings.names.get((group, place), _DEFAULT)
        for field in type(row).model_fields:
            source = settings.names.get((group, place, field), whole) if field in row.model_fields_set else _DEFAULT
            yield EffectiveSetting(f"{group}.{place}.{field}", _plain(getattr(row, field)), source)


def _plain(value: object) -> Any:
    """What JSON can hold of it. Any secret inside is masked."""
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
