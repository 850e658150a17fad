"""The report of a run: each promise, how often it was tried, and what came of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Report = Callable[[str, object, object], None]

_ROWS = pytest.StashKey[list[tuple[str, str, str]]]()
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is `make test-faults`, and no part of the other tasks."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Adds a row to the table that is printed at the end: `report(promise, count, result)`."""
    rows = pytestconfig.stash.setdefault(_ROWS, [])
    return lambda promise, count, result: rows.append((promise, str(count), str(result)))


@pytest.fixture(scope="session")
def seconds() -> float:
    """How long each attack lasts: FAULTS_SECONDS."""
    return float(os.environ.get("FAULTS_SECONDS", "10"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("promises")
    table = [("promise", "count", "result"), *rows]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    for promise, count, result in table:
        terminalreporter.line(f"{promise:<{widths[0]}}  {count:>{widths[1]}}  {result}")
