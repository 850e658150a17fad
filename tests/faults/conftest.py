"""The report of a run: each promise, how often it was tried, and what came of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Report = Callable[[str, object, object], None]

_ROWS = pytest.StashKey[list[tuple[str, str, str]]]()
_HERE = Path(__file__).parent
# What a test takes beside its attack: starts, ends, and memory that comes back.
_BESIDE_SECONDS = 300


def _number(name: str, usual: int) -> int:
    return int(os.environ.get(name, usual))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is `make test-faults`, and no part of the other tasks. A test has time for its attack."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(_BESIDE_SECONDS + 2 * _number("FAULTS_SECONDS", 10)))


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Adds a row to the table that is printed at the end: `report(promise, count, result)`."""
    rows = pytestconfig.stash.setdefault(_ROWS, [])
    return lambda promise, count, result: rows.append((promise, str(count), str(result)))


@pytest.fixture(scope="session")
def seconds() -> float:
    """How long each attack lasts: FAULTS_SECONDS."""
    return _number("FAULTS_SECONDS", 10)


@pytest.fixture(scope="session")
def readers() -> int:
    """How many clients stop reading: FAULTS_READERS."""
    return _number("FAULTS_READERS", 500)


@pytest.fixture(scope="session")
def cancellations() -> int:
    """How many calls are cancelled: FAULTS_CANCELLATIONS."""
    return _number("FAULTS_CANCELLATIONS", 3000)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("promises")
    table = [("promise", "count", "result"), *rows]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    for promise, count, result in table:
        terminalreporter.line(f"{promise:<{widths[0]}}  {count:>{widths[1]}}  {result}")
