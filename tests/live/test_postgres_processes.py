"""Several processes on one PostgreSQL database: workers of one gateway, and gateways beside each other."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import orjson
import pytest

from tests.fakes.gateway import GatewayProcess

pytestmark = pytest.mark.live

SECONDS = 60.0
_TURNS = 1000


def children(pid: int) -> set[int]:
    """The processes that run the gateway for this one: its children, without multiprocessing's own helper."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if parent == pid and "resource_tracker" not in command:
            found.add(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def fresh(tmp_path: Path, empty_postgresql_url: str) -> Iterator[GatewayProcess]:
    """A gateway that has not started yet, and a database with nothing in it."""
    gateway = GatewayProcess(tmp_path, {"DATABASE_URL": empty_postgresql_url, "ANTIPHON_DRAIN_SECONDS": "1"})
    try:
        yield gateway
    finally:
        gateway.stop()


def chained(gateway: GatewayProcess, key: str, turns: int = 1) -> str:
    """What the model knows of the first turn after so many more, each over a connection of its own."""
    with gateway.client(key) as client:
        last = client.responses.create(model="demo", input="My city is Utrecht.")
    for _ in range(turns):
        with gateway.client(key) as client:
            last = client.responses.create(model="demo", input="What is my city?", previous_response_id=last.id)
    return last.output_text


def test_the_first_start_on_an_empty_database_serves(fresh: GatewayProcess) -> None:
    fresh.start()
    assert fresh.key not in fresh.banner.read_text()
    assert f"Your first API key is in {fresh.data_dir / 'first-api-key'}\n" in fresh.banner.read_text()
    assert chained(fresh, fresh.key) == "Your city is Utrecht."
    assert not (fresh.data_dir / "antiphon.db").exists()
    assert "postgresql" not in fresh.banner.read_text()
    assert fresh.run("migrate", "--check") == "The schema is current.\n"


@pytest.mark.slow
def test_a_key_that_can_be_neither_saved_nor_shown_is_not_made_and_a_command_makes_one(fresh: GatewayProcess) -> None:
    fresh.data_dir.write_text("a file where the folder should be")
    fresh.start()
    banner = fresh.banner.read_text()
    assert "No API key was made" in banner
    assert "sk-aph_" not in banner
    key = fresh.run("keys", "create", "--name", "mine").split()[-1]
    assert chained(fresh, key) == "Your city is Utrecht."


@pytest.mark.slow
def test_two_workers_serve_as_one_and_stop_together(fresh: GatewayProcess) -> None:
    fresh.start("--workers", "2")
    workers = children(fresh.pid)
    assert len(workers) == 2
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda _: chained(fresh, fresh.key, turns=4), range(8))
    assert set(answers) == {"Your city is Utrecht."}
    parent = fresh.pid
    fresh.stop()
    assert not any(map(is_alive, {parent, *workers}))


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(fresh: GatewayProcess) -> None:
    fresh.start("--workers", "2")
    before = children(fresh.pid)
    os.kill(min(before), signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while len(children(fresh.pid) - {min(before)}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert chained(fresh, fresh.key) == "Your city is Utrecht."


def gone(pids: set[int]) -> None:
    """Wait until none of these processes is there."""
    deadline = time.monotonic() + SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_workers_end_with_their_parent_and_leave_the_port(fresh: GatewayProcess) -> None:
    fresh.start("--workers", "2")
    workers = children(fresh.pid)
    fresh.kill()
    gone(workers)
    fresh.start("--workers", "2")
    assert chained(fresh, fresh.key) == "Your city is Utrecht."


@pytest.mark.slow
def test_workers_have_the_flags_of_their_parent(tmp_path: Path, empty_postgresql_url: str) -> None:
    # An upstream on the port that is the gateway's own, where no flag says otherwise.
    environment = {"DATABASE_URL": empty_postgresql_url, "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}
    gateway = GatewayProcess(tmp_path, environment)
    try:
        gateway.start("--workers", "2")
        assert len(children(gateway.pid)) == 2
    finally:
        gateway.stop()


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_gateway(fresh: GatewayProcess) -> None:
    fresh.start("--workers", "2")
    deadline = time.monotonic() + 3 * SECONDS
    while is_alive(fresh.pid):
        assert time.monotonic() < deadline
        for worker in children(fresh.pid):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.05)
    assert fresh.exit_status() == 1
    assert fresh.banner.read_text().splitlines()[-1].startswith("antiphon: Worker processes keep dying")


@pytest.mark.slow
def test_a_second_signal_to_the_parent_ends_all_at_once(tmp_path: Path, empty_postgresql_url: str) -> None:
    environment = {"DATABASE_URL": empty_postgresql_url, "ANTIPHON_SHUTDOWN_GRACE_SECONDS": "600"}
    gateway = GatewayProcess(tmp_path, environment)
    try:
        gateway.start("--workers", "2")
        workers = children(gateway.pid)
        gateway.send(signal.SIGTERM)
        # Whoever stops all processes of a service sends them the first signal too: that is no second one.
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while (answer := httpx.get(f"{gateway.url}/readyz")).status_code != 503:
            assert time.monotonic() < deadline
        assert answer.json()["admission"] == "draining"
        gateway.send(signal.SIGTERM)
        gateway.exit_status()
        gone(workers)
    finally:
        gateway.kill()


@pytest.mark.slow
def test_two_gateways_that_start_at_once_make_one_installation(
    fresh: GatewayProcess, tmp_path: Path, empty_postgresql_url: str
) -> None:
    other = GatewayProcess(tmp_path / "other", {"DATABASE_URL": empty_postgresql_url})
    other.log.parent.mkdir()
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda gateway: gateway.start(), (fresh, other)))
        keys = [gateway.key for gateway in (fresh, other) if (gateway.data_dir / "first-api-key").exists()]
        assert len(keys) == 1
        listed = orjson.loads(fresh.run("keys", "list", "--json"))["data"]
        assert sorted(key["name"] for key in listed) == ["first", "first admin"]
        for gateway in (fresh, other):
            assert chained(gateway, keys[0]) == "Your city is Utrecht."
    finally:
        other.stop()


@pytest.mark.slow
def test_a_turn_on_one_gateway_is_continued_on_another_at_once(
    fresh: GatewayProcess, tmp_path: Path, empty_postgresql_url: str
) -> None:
    fresh.start()
    other = GatewayProcess(tmp_path / "other", {"DATABASE_URL": empty_postgresql_url})
    other.log.parent.mkdir()
    try:
        other.start()
        with fresh.client() as here, other.client(fresh.key) as there, ThreadPoolExecutor(8) as threads:

            def follow(number: int) -> str:
                first = here.responses.create(model="demo", input=f"My number is {number}.")
                asked = "What is my number?"
                return there.responses.create(model="demo", input=asked, previous_response_id=first.id).output_text

            answers = list(threads.map(follow, range(_TURNS)))
        assert answers == [f"Your number is {number}." for number in range(_TURNS)]
    finally:
        other.stop()
