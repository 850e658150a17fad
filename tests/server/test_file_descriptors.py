"""The limit of open files: raised as far as it goes, and held against what the settings promise."""

import asyncio
import resource

import pytest
from structlog.testing import capture_logs

from app.server import file_descriptors
from app.settings.gateway import RelaySettings, Settings
from app.settings.server import ServerSettings


class Limits:
    """The kernel's limits of a process, soft and hard."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        self.now = limits


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Limits:
    of_process = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", of_process.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", of_process.setrlimit)
    return of_process


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 524_288, 524_288),
        (1024, 1_073_741_816, 1_048_576),
        (1024, resource.RLIM_INFINITY, 1_048_576),
        (65_536, 65_536, 65_536),
    ],
)
def test_the_soft_limit_becomes_the_hard_one_within_reason(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int
) -> None:
    of_process = limits(monkeypatch, soft, hard)
    with capture_logs() as lines:
        file_descriptors.raise_limit(Settings())
    assert of_process.now == (raised, hard)
    assert file_descriptors.limit() == raised
    assert lines == []


def test_a_limit_that_is_too_low_is_told_with_both_numbers_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 256, 1024)
    settings = Settings()
    with capture_logs() as lines:
        file_descriptors.raise_limit(settings)
    (line,) = lines
    assert (line["log_level"], line["limit"]) == ("warning", 1024)
    assert line["needed"] == file_descriptors.needed_by(settings) > 3 * settings.server.max_concurrent_requests
    assert "LimitNOFILE" in line["advice"]


def test_what_is_needed_grows_with_the_calls_and_with_the_connections() -> None:
    few = Settings(server=ServerSettings(max_concurrent_requests=10), relay=RelaySettings(max_upstream_connections=10))
    calls = few.model_copy(update={"server": ServerSettings(max_concurrent_requests=110)})
    kept = few.model_copy(update={"relay": RelaySettings(max_upstream_connections=110)})
    assert file_descriptors.needed_by(calls) == file_descriptors.needed_by(few) + 300
    assert file_descriptors.needed_by(kept) == file_descriptors.needed_by(few) + 100


def test_clients_leave_some_for_upstreams_and_say_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 1000, 1000)
    connections = file_descriptors.ConnectionLimit()
    with capture_logs() as lines:
        assert connections.admits(749)
        assert not any(connections.admits(750) for _ in range(100))
    (line,) = lines
    assert (line["open"], line["open_files"]) == (750, 1000)


async def test_what_many_connections_held_is_given_back_once_most_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_descriptors, "_TRIM_SECONDS", 0.01)
    trims: list[int] = []
    connections = file_descriptors.ConnectionLimit(1000, trim=lambda: trims.append(1))
    for most, trimmed in ((50, 0), (200, 1), (50, 1), (200, 2)):
        for count in range(most + 1):
            assert connections.admits(count)
        for count in reversed(range(most)):
            connections.left(count)
        await asyncio.sleep(0.1)
        assert len(trims) == trimmed
