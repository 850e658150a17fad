"""Write docs/settings.md from the settings themselves: `python -m app.settings.docs [--check] PATH`.

A fact about a setting belongs to the setting, not here.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from app.settings.gateway import Settings
from app.settings.prices import PriceSettings
from app.settings.sources import (
    CONFIG,
    DEFAULT_CONFIG,
    OPENAI_DEFAULT_URL,
    OPENAI_KEY,
    OPENAI_KEY_FILE,
    OPENAI_URL,
    groups_of,
    settings_of,
)
from app.settings.upstreams import ChatProfile, KeySettings, UpstreamSettings

_MIB = 1024 * 1024
_TYPES = {
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "table",
}
_HEADER = f"""\
# Settings

Written by `make docs` from `app/settings/gateway.py`; edit that instead.

Every setting has an environment variable and a key in `{DEFAULT_CONFIG}` (or in the file that `{CONFIG}` names).
An unknown name in either is an error, and a start with several mistakes reports all of them.
"""
_OTHERS = f"""\
## Variables of their own

| Variable | Default | `_FILE` | Meaning |
|---|---|---|---|
| `{CONFIG}` | `{DEFAULT_CONFIG}`, if it exists | - | The config file. Named but missing is an error. |
| `{OPENAI_KEY}` | - | `{OPENAI_KEY_FILE}` | One key, or several with commas: the upstream `openai`, after the file's. |
| `{OPENAI_URL}` | `{OPENAI_DEFAULT_URL}` | - | Base URL of that upstream. Without a key, calls carry none. |
"""
_PRECEDENCE = """\
## Which value wins

Flag, then environment variable, then `_FILE` variable, then config file, then default.

* An empty variable counts as unset.
* A secret's `_FILE` variable names a file whose content, stripped, is the value. Setting both is an error.
* In the config file a secret is a reference, `env:NAME` or `file:/path`, never the secret itself.
* `.env` files are not read.
"""


def reference() -> str:
    """Render the whole page in Markdown."""
    parts = [_HEADER, *(_group(name, kind) for name, kind in groups_of(Settings).items()), _OTHERS]
    parts += [_array("upstream", UpstreamSettings), _array("upstream.key", KeySettings)]
    parts += [_array("upstream.chat", ChatProfile, "[{}]"), _array("price", PriceSettings)]
    return "\n".join([*parts, _PRECEDENCE])


def _group(group: str, kind: type[BaseModel]) -> str:
    fields: Mapping[str, Mapping[str, Any]] = kind.model_json_schema()["properties"]
    rows = [
        (
            f"`{setting.env}`",
            f"`{setting.field}`",
            _type(fields[setting.field]),
            _default(fields[setting.field]),
            f"`{setting.env_file}`" if setting.secret else "-",
            fields[setting.field]["description"],
        )
        for setting in settings_of(Settings)
        if setting.group == group
    ]
    table = _table(("Variable", "Key", "Type", "Default", "`_FILE`", "Meaning"), rows)
    return f"## `[{group}]`\n\n{kind.__doc__}\n\n{table}"


def _array(name: str, kind: type[BaseModel], form: str = "[[{}]]") -> str:
    schema = kind.model_json_schema()
    rows = [
        (f"`{key}`", _type(field), _default(field), field["description"]) for key, field in schema["properties"].items()
    ]
    table = _table(("Key", "Type", "Default", "Meaning"), rows)
    return f"## `{form.format(name)}`\n\n{kind.__doc__} Config file only.\n\n{table}"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kind, _ = field["anyOf"]
        return "secret" if kind.get("format") == "password" else _type(kind)
    if "enum" in field:
        return " or ".join(f"`{choice}`" for choice in field["enum"])
    if "$ref" in field:
        return "table"
    name = "path" if field.get("format") == "path" else _TYPES[field["type"]]
    limits = [
        f"{sign} {field[key]:g}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("maximum", "≤"))
        if key in field
    ]
    limits += [f"`{field['pattern']}`"] if "pattern" in field else []
    return ", ".join([name, *limits])


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if "default" not in field:
        return "required"
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"`{orjson.dumps(value).decode()}`"
    if field["type"] == "integer" and value >= _MIB:
        return f"`{value}` ({value // _MIB} MiB)"
    return f"`{value}`"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.settings.docs", description="The settings reference.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is stale")
    options = parser.parse_args(arguments)
    page: Path = options.path
    if not options.check:
        page.write_text(reference(), encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == reference():
        return 0
    sys.stderr.write(f"{page} is stale: run make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
