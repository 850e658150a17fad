"""Where settings are read: flags, environment, secret files and the TOML file, each value with the name it has there.

It knows names and places; what a setting means and which values are good is app.settings' matter.
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

PREFIX = "ANTIPHON_"
CONFIG = "ANTIPHON_CONFIG"
DEFAULT_CONFIG = "antiphon.toml"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_KEY_FILE = "OPENAI_API_KEY_FILE"
OPENAI_URL = "OPENAI_BASE_URL"
OPENAI_DEFAULT_URL = "https://api.openai.com/v1"

# Stands for a value whose problem is already reported. Validation refuses it, so that nothing is concluded from it.
BROKEN = object()

_REFERENCE = re.compile(r"env:(?P<env>[A-Za-z_]\w*)|file:(?P<file>/.+)")

# Kubernetes puts these in every pod beside a Service named "antiphon"; ANTIPHON_PORT is then tcp://ADDRESS:PORT.
_SERVICE_LINK = re.compile(r"ANTIPHON_(SERVICE_(HOST|PORT)\w*=|PORT_\d+_(TCP|UDP)\w*=|PORT=(tcp|udp)://)")


class SettingsGroup(BaseModel):
    """One table of settings. `env_names` holds the environment names that are not `ANTIPHON_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
    env_names: ClassVar[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of one group, and the names it goes by."""

    group: str
    field: str
    env: str
    secret: bool

    @property
    def flag(self) -> str:
        """The name in `flags`: the environment's, in lower case and without the prefix."""
        return self.env.removeprefix(PREFIX).lower()

    @property
    def env_file(self) -> str:
        """The variable that names a file holding the value. Only secrets have one."""
        return f"{self.env}_FILE"


def settings_of(settings_cls: type[BaseSettings]) -> tuple[Setting, ...]:
    """Every setting of every group, in the order of declaration."""
    return tuple(
        Setting(
            group, name, kind.env_names.get(name, f"{PREFIX}{name.upper()}"), SecretStr in get_args(info.annotation)
        )
        for group, kind in groups_of(settings_cls).items()
        for name, info in kind.model_fields.items()
    )


def groups_of(settings_cls: type[BaseSettings]) -> dict[str, type[SettingsGroup]]:
    """The groups by the name of their table."""
    kinds = {name: info.annotation for name, info in settings_cls.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, SettingsGroup)}


class Source(PydanticBaseSettingsSource):
    """The values found in one place. `names` says how the user wrote each of them."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.values: dict[str, Any] = {}
        self.names: dict[tuple[int | str, ...], str] = {}

    def put(self, setting: Setting, name: str, value: object) -> None:
        """Keep a setting's value."""
        self.values.setdefault(setting.group, {})[setting.field] = value
        self.names[setting.group, setting.field] = name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic's signature
        """One top-level field, as pydantic asks for it."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self.values


class SettingsReader:
    """Reads every place once. What is wrong goes to `problems`, a line each, and reading goes on."""

    def __init__(
        self, settings_cls: type[BaseSettings], upstream_fields: Collection[str], environ: Mapping[str, str]
    ) -> None:
        self.problems: list[str] = []
        self._settings_cls = settings_cls
        self._settings = settings_of(settings_cls)
        self._upstream_fields = upstream_fields
        # An empty variable counts as unset: compose files and charts write them for "no value".
        self._environ = {
            name: value.strip()
            for name, value in environ.items()
            if value.strip() and not _SERVICE_LINK.match(f"{name}={value}")
        }
        self._path = self._environ.get(CONFIG, DEFAULT_CONFIG)

    def sources(self, flags: Mapping[str, object]) -> tuple[Source, ...]:
        """The places, the one that wins first."""
        document = self._document()
        return (
            self._flags(flags),
            self._environment(),
            self._secret_files(),
            self._tables(document),
            self._upstreams(document),
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
            if setting.secret and (value := self._secret_file(setting.env)) is not None:
                source.put(setting, setting.env_file, value)
        return source

    def _tables(self, document: Mapping[str, Any]) -> Source:
        source = Source(self._settings_cls)
        groups = groups_of(self._settings_cls)
        for table, content in document.items():
            if table == "upstream":
                continue
            if table not in groups:
                self._unknown(f"{self._path}: {table}", table, (*groups, "upstream"))
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
                source.put(known[key], name, self._resolve(name, value) if known[key].secret else value)

    def _upstreams(self, document: Mapping[str, Any]) -> Source:
        source = Source(self._settings_cls)
        rows: list[dict[str, Any]] = []
        tables = document.get("upstream", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problems.append(f"{self._path}: upstream: must be an array of tables; write [[upstream]].")
            tables = []
        for table in tables:
            name = f"{self._path}: [[upstream]] #{len(rows) + 1}"
            source.names["upstreams", len(rows)] = name
            rows.append(self._upstream(name, table))
        key_name = OPENAI_KEY_FILE if OPENAI_KEY_FILE in self._environ else OPENAI_KEY
        if not {key_name, OPENAI_URL}.isdisjoint(self._environ):
            source.names["upstreams", len(rows)] = key_name if key_name in self._environ else OPENAI_URL
            source.names["upstreams", len(rows), "base_url"] = OPENAI_URL
            source.names["upstreams", len(rows), "keys"] = key_name
            rows.append(self._openai(key_name))
        self._check_names(source, rows)
        source.values["upstreams"] = rows
        return source

    def _upstream(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, value in table.items():
            if key not in self._upstream_fields:
                self._unknown(f"{name} {key}", key, self._upstream_fields)
            else:
                row[key] = self._key_list(f"{name} keys", value) if key == "keys" else value
        return row

    def _openai(self, key_name: str) -> dict[str, Any]:
        text = self._environ.get(OPENAI_KEY, self._secret_file(OPENAI_KEY))
        keys = [] if text is None else self._split(key_name, text)
        return {"name": "openai", "base_url": self._environ.get(OPENAI_URL, OPENAI_DEFAULT_URL), "keys": keys}

    def _check_names(self, source: Source, rows: Iterable[Mapping[str, Any]]) -> None:
        seen: set[str] = set()
        for index, name in enumerate(str(row.get("name", "")) for row in rows):
            if name and name in seen:
                self.problems.append(
                    f"{source.names['upstreams', index]}: the upstream name {name!r} is taken; rename one of the two "
                    f"({OPENAI_KEY} and {OPENAI_URL} make one named 'openai')."
                )
            seen.add(name)

    def _key_list(self, name: str, value: object) -> object:
        if not isinstance(value, list):
            self.problems.append(f'{name}: must be a list of references; write ["env:NAME"] or ["file:/path"].')
            return BROKEN
        lists = [self._split(name, self._resolve(name, reference)) for reference in value]
        return BROKEN if BROKEN in lists else [key for keys in lists if isinstance(keys, list) for key in keys]

    def _split(self, name: str, text: object) -> object:
        """Comma-separated keys as a list."""
        if not isinstance(text, str):
            return BROKEN
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            self.problems.append(f"{name}: holds no key; write one key, or several with commas between them.")
        return keys or BROKEN

    def _resolve(self, name: str, reference: object) -> object:
        """What `env:NAME` or `file:/path` stands for."""
        match = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if match is None:
            # The value is not echoed: most likely it is the secret itself.
            self.problems.append(f"{name}: must be a reference, env:NAME or file:/path, never the secret itself.")
            return BROKEN
        if match["file"]:
            return self._content(name, match["file"])
        if match["env"] not in self._environ:
            self.problems.append(f"{name}: the environment variable {match['env']} is not set; set it.")
        return self._environ.get(match["env"], BROKEN)

    def _secret_file(self, env: str) -> object | None:
        """The content of the file that `<env>_FILE` names; None when the variable is unset."""
        name = f"{env}_FILE"
        if name not in self._environ:
            return None
        if env in self._environ:
            self.problems.append(f"{name}: {env} is set as well; unset one of the two.")
            return None
        return self._content(name, self._environ[name])

    def _content(self, name: str, path: str) -> object:
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            self._unreadable(name, path, error)
            return BROKEN
        if not text:
            self.problems.append(f"{name}: the file {path} is empty; write the secret into it.")
        return text or BROKEN

    def _document(self) -> dict[str, Any]:
        if CONFIG not in self._environ and not Path(self._path).exists():
            return {}
        try:
            return tomllib.loads(Path(self._path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{self._path}: is not valid TOML: {error}.")
        except (OSError, ValueError) as error:
            self._unreadable(CONFIG if CONFIG in self._environ else DEFAULT_CONFIG, self._path, error)
        return {}

    def _unreadable(self, name: str, path: str, error: OSError | ValueError) -> None:
        # A decoding error's own text quotes bytes of the file, which may be a secret's.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        self.problems.append(f"{name}: cannot read {path}: {reason}; check the path and its permissions.")

    def _unknown(self, name: str, key: str, known: Iterable[str]) -> None:
        # Compared without the prefix, which would make any two variables look alike.
        names = {other.removeprefix(PREFIX): other for other in sorted(known)}
        close = difflib.get_close_matches(key.removeprefix(PREFIX), names, n=1)
        advice = f"did you mean {names[close[0]]!r}?" if close else "remove it (docs/settings.md lists the settings)."
        self.problems.append(f"{name}: no such setting; {advice}")
