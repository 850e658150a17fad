"""Read raw settings from flags, environment, secret files and the TOML file, each value with its name there.

`app.settings.gateway` defines what a setting means and which values are valid.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from app.settings.secret_references import SecretReferences
from app.settings.upstream_keys import UpstreamKeys

PREFIX = "ANTIPHON_"
CONFIG = "ANTIPHON_CONFIG"
DEFAULT_CONFIG = "antiphon.toml"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_KEY_FILE = "OPENAI_API_KEY_FILE"
OPENAI_URL = "OPENAI_BASE_URL"
OPENAI_DEFAULT_URL = "https://api.openai.com/v1"

_ARRAYS = ("upstream", "price")

# Settings that there were, by the name in the environment and in the file, and what has become of them.
_ONE_TRANSPORT = "upstreams are reached by the gateway's own HTTP client alone, so remove it."
REMOVED = MappingProxyType({"ANTIPHON_TRANSPORT": _ONE_TRANSPORT, "[relay] transport": _ONE_TRANSPORT})

# Kubernetes puts these in every pod beside a Service named "antiphon"; ANTIPHON_PORT is then tcp://ADDRESS:PORT.
_SERVICE_LINK = re.compile(r"ANTIPHON_(SERVICE_(HOST|PORT)\w*=|PORT_\d+_(TCP|UDP)\w*=|PORT=(tcp|udp)://)")


class SettingsGroup(BaseModel):
    """Base of a table of settings. `env_names` holds the environment names that are not `ANTIPHON_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
    env_names: ClassVar[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """Name one field of one group, and its names in the sources."""

    group: str
    field: str
    env: str
    secret: bool

    @property
    def flag(self) -> str:
        """Return the name in `flags`: the environment's, in lower case and without the prefix."""
        return self.env.removeprefix(PREFIX).lower()

    @property
    def env_file(self) -> str:
        """Return the variable that names a file with the value. Only secrets have one."""
        return f"{self.env}_FILE"


def settings_of(settings_cls: type[BaseSettings]) -> tuple[Setting, ...]:
    """List every setting of every group, in the order of declaration."""
    return tuple(
        Setting(
            group, name, kind.env_names.get(name, f"{PREFIX}{name.upper()}"), SecretStr in get_args(info.annotation)
        )
        for group, kind in groups_of(settings_cls).items()
        for name, info in kind.model_fields.items()
    )


def groups_of(settings_cls: type[BaseSettings]) -> dict[str, type[SettingsGroup]]:
    """Return the groups by the name of their table."""
    kinds = {name: info.annotation for name, info in settings_cls.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, SettingsGroup)}


class Source(PydanticBaseSettingsSource):
    """Hold the values of one place for pydantic. `names` has the operator's name of each value by its path."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.values: dict[str, Any] = {}
        self.names: dict[tuple[int | str, ...], str] = {}

    def put(self, setting: Setting, name: str, value: object) -> None:
        """Add a setting's value and its name."""
        self.values.setdefault(setting.group, {})[setting.field] = value
        self.names[setting.group, setting.field] = name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic's signature
        """Return one top-level field, as pydantic asks for it."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self.values


class SettingsReader:
    """Read every place once; each problem adds a line to `problems`, and reading goes on."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        upstream_fields: Collection[str],
        key_fields: Collection[str],
        environ: Mapping[str, str],
    ) -> None:
        self.problems: list[str] = []
        self._settings_cls = settings_cls
        self._settings = settings_of(settings_cls)
        self._upstream_fields = upstream_fields
        self._key_fields = frozenset(key_fields)
        # An empty variable counts as unset: compose files and charts write them for "no value".
        self._environ = {
            name: value.strip()
            for name, value in environ.items()
            if value.strip() and not _SERVICE_LINK.match(f"{name}={value}")
        }
        self._references = SecretReferences(self._environ, self.problems)
        self._path = self._environ.get(CONFIG, DEFAULT_CONFIG)

    def sources(self, flags: Mapping[str, object]) -> tuple[Source, ...]:
        """Return the sources in the order of precedence, the winning one first."""
        document = self._document()
        return (
            self._flags(flags),
            self._environment(),
            self._secret_files(),
            self._tables(document),
            self._upstreams(document),
            self._prices(document),
        )

    def _flags(self, flags: Mapping[str, object]) -> Source:
        source = Source(self._settings_cls)
        known = {setting.flag: setting for setting in self._settings}
        for flag, value in flags.items():
            name = f"--{flag.replace('_', '-')}"
            if flag not in known:
                self._unknown(name, flag, known)
            elif value is not None:
                source.put(known[flag], name, value)
        return source

    def _environment(self) -> Source:
        source = Source(self._settings_cls)
        for setting in self._settings:
            if setting.env in self._environ:
                source.put(setting, setting.env, self._environ[setting.env])
        known = {CONFIG, *(setting.env for setting in self._settings)}
        known |= {setting.env_file for setting in self._settings if setting.secret}
        for name in sorted(self._environ):
            if name.startswith(PREFIX) and name not in known:
                self._unknown(name, name, known)
        return source

    def _secret_files(self) -> Source:
        source = Source(self._settings_cls)
        for setting in self._settings:
            if setting.secret and (value := self._references.secret_file(setting.env)) is not None:
                source.put(setting, setting.env_file, value)
        return source

    def _tables(self, document: Mapping[str, Any]) -> Source:
        source = Source(self._settings_cls)
        groups = groups_of(self._settings_cls)
        for table, content in document.items():
            if table in _ARRAYS:
                continue
            if table not in groups:
                self._unknown(f"{self._path}: {table}", table, (*groups, *_ARRAYS))
            elif not isinstance(content, dict):
                self.problems.append(f"{self._path}: {table}: must be a table; write [{table}] and its settings below.")
            else:
                self._table(source, table, content)
        return source

    def _table(self, source: Source, table: str, content: Mapping[str, Any]) -> None:
        known = {setting.field: setting for setting in self._settings if setting.group == table}
        for key, value in content.items():
            name = f"{self._path}: [{table}] {key}"
            if key not in known:
                self._unknown(name, key, known)
            else:
                source.put(known[key], name, self._references.resolve(name, value) if known[key].secret else value)

    def _upstreams(self, document: Mapping[str, Any]) -> Source:
        source = Source(self._settings_cls)
        rows: list[dict[str, Any]] = []
        for table in self._array(document, "upstream"):
            place = ("upstreams", len(rows))
            source.names[place] = f"{self._path}: [[upstream]] #{len(rows) + 1}"
            rows.append(self._upstream(source, place, table))
        key_name = OPENAI_KEY_FILE if OPENAI_KEY_FILE in self._environ else OPENAI_KEY
        if not {key_name, OPENAI_URL}.isdisjoint(self._environ):
            place = ("upstreams", len(rows))
            source.names[place] = key_name if key_name in self._environ else OPENAI_URL
            source.names[*place, "base_url"] = OPENAI_URL
            source.names[*place, "keys"] = key_name
            rows.append(self._openai(source, place, key_name))
        self._check_names(source, rows)
        source.values["upstreams"] = rows
        return source

    def _prices(self, document: Mapping[str, Any]) -> Source:
        source = Source(self._settings_cls)
        source.values["prices"] = rows = self._array(document, "price")
        source.names |= {("prices", row): f"{self._path}: [[price]] #{row + 1}" for row in range(len(rows))}
        return source

    def _array(self, document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        tables = document.get(name, [])
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        self.problems.append(f"{self._path}: {name}: must be an array of tables; write [[{name}]].")
        return []

    def _upstream(self, source: Source, place: tuple[str, int], table: Mapping[str, Any]) -> dict[str, Any]:
        name = source.names[place]
        row: dict[str, Any] = {}
        keys = self._keys()
        for key, value in table.items():
            if key == "key":
                keys.add_tables(f"{name} [[upstream.key]]", value)
            elif key == "keys":
                keys.add_list(f"{name} keys", value)
            elif key not in self._upstream_fields:
                self._unknown(f"{name} {key}", key, (*self._upstream_fields, "key"))
            else:
                row[key] = value
        return {**row, "keys": keys.found(source.names, place)} if {"key", "keys"} & table.keys() else row

    def _openai(self, source: Source, place: tuple[str, int], key_name: str) -> dict[str, Any]:
        text = self._environ.get(OPENAI_KEY, self._references.secret_file(OPENAI_KEY))
        keys = self._keys()
        if text is not None:
            keys.add(key_name, text)
        url = self._environ.get(OPENAI_URL, OPENAI_DEFAULT_URL)
        return {"name": "openai", "base_url": url, "keys": keys.found(source.names, place)}

    def _keys(self) -> UpstreamKeys:
        return UpstreamKeys(self._references, self.problems, self._key_fields, self._unknown)

    def _check_names(self, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
        seen: set[str] = set()
        for index, name in enumerate(str(row.get("name", "")) for row in rows):
            if name and name in seen:
                self.problems.append(
                    f"{source.names['upstreams', index]}: the upstream name {name!r} is taken; rename one of the two "
                    f"({OPENAI_KEY} and {OPENAI_URL} make one named 'openai')."
                )
            seen.add(name)

    def _document(self) -> dict[str, Any]:
        if CONFIG not in self._environ and not Path(self._path).exists():
            return {}
        try:
            return tomllib.loads(Path(self._path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{self._path}: is not valid TOML: {error}.")
        except (OSError, ValueError) as error:
            self._references.unreadable(CONFIG if CONFIG in self._environ else DEFAULT_CONFIG, self._path, error)
        return {}

    def _unknown(self, name: str, key: str, known: Iterable[str]) -> None:
        if removed := REMOVED.get(name.removeprefix(f"{self._path}: ")):
            self.problems.append(f"{name}: this setting was removed; {removed}")
            return
        # Compared without the prefix, which would make any two variables similar.
        names = {other.removeprefix(PREFIX): other for other in sorted(known)}
        close = difflib.get_close_matches(key.removeprefix(PREFIX), names, n=1)
        advice = f"did you mean {names[close[0]]!r}?" if close else "remove it (docs/settings.md lists the settings)."
        self.problems.append(f"{name}: no such setting; {advice}")
