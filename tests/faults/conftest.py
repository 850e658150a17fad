"""The report of a run: each promise, how often it was tried, and what came of it."""

from collections.abc import Callable

import pytest

Report = Callable[[str, object, object], None]

_ROWS = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """Adds a row to the table that is printed at the end: `report(promise, count, result)`."""
    rows = pytestconfig.stash.setdefault(_ROWS, [])
    return lambda promise, count, result: rows.append((promise, str(count), str(result)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("promises")
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for promise, count, result in rows:
        terminalreporter.line(f"{promise:<{widths[0]}}  {count:>{widths[1]}}  {result}")
