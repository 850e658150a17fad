"""Each third-party package has a row in docs/dependencies.md, is used where that says, and no other is used."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"app", "benchmarks", "migrations", "tests"}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECTIONS = {
    "To serve": PROJECT["project"]["dependencies"],
    "As an extra": [each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra],
    "To develop": PROJECT["dependency-groups"]["dev"],
}


def rows(section: str) -> dict[str, tuple[str, list[Path]]]:
    """The packages of a section, each with what names it, and where."""
    text = (ROOT / "docs" / "dependencies.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {
        package.strip("`"): (named.strip("`"), [ROOT / path for path in re.findall(r"`([^`]+)`", where)])
        for package, named, where, _ in cells
    }


def packages(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[><=; ]", requirement, maxsplit=1)[0] for requirement in requirements]


def imported(path: Path) -> set[str]:
    """The modules that a file imports from outside, each by the first part of its name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found - OURS - sys.stdlib_module_names


@pytest.mark.parametrize("section", SECTIONS)
def test_every_dependency_has_a_row_and_every_row_is_one(section: str) -> None:
    assert sorted(rows(section)) == sorted(packages(SECTIONS[section]))


def is_used(named: str, path: Path) -> bool:
    """Whether Python imports it there; elsewhere, and where it is no module's name, whether the words stand there."""
    if named.isidentifier() and (path.is_dir() or path.suffix == ".py"):
        return any(named in imported(file) for file in (path.rglob("*.py") if path.is_dir() else [path]))
    return named in path.read_text()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_dependency_is_used_where_its_row_says(section: str) -> None:
    for package, (named, where) in rows(section).items():
        assert where, package
        assert [str(path) for path in where if not is_used(named, path)] == [], package


def test_what_serves_imports_nothing_that_is_not_a_dependency() -> None:
    known = {named for section in ("To serve", "As an extra") for named, _ in rows(section).values()}
    # One package with pydantic, and what Python has from 3.14 on.
    known |= {"pydantic_core", "compression"}
    for folder in ("app", "migrations"):
        for path in (ROOT / folder).rglob("*.py"):
            assert imported(path) <= known, path


def test_the_gateway_loads_no_library_that_nothing_uses() -> None:
    script = (
        "import app.__main__, app.boot.start, sys; "
        "print([name for name in sys.modules if name.startswith(('rich.', 'pydantic.v1.'))])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
