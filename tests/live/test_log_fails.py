"""A log that nobody reads, or that has no room, costs nobody a call."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.fakes.gateway import GatewayProcess

pytestmark = pytest.mark.live

CALLS = 30


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, {"ANTIPHON_DRAIN_SECONDS": "1"})
    yield process
    process.stop()


def call(gateway: GatewayProcess) -> None:
    with gateway.client(timeout=20) as client:
        for number in range(CALLS):
            assert client.responses.create(model="demo", input=f"{number}", store=number % 2 == 0).id


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_stops_nothing_and_whoever_reads_it_later_has_every_line(
    gateway: GatewayProcess,
) -> None:
    os.mkfifo(gateway.log)
    pipe = os.open(gateway.log, os.O_RDWR | os.O_NONBLOCK)
    size = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    assert os.write(pipe, b" " * (size - 1) + b"\n") == size
    gateway.start()
    call(gateway)
    got = b""
    while got.count(b'"event":"request"') < CALLS:
        with suppress(BlockingIOError):
            got += os.read(pipe, 65_536)
    lines = [orjson.loads(line) for line in got.splitlines() if line.strip()]
    assert sum(line["event"] == "request" for line in lines) == CALLS
    os.close(pipe)


@pytest.mark.slow
def test_a_full_disk_under_the_log_fails_no_call_and_the_process_ends_well(gateway: GatewayProcess) -> None:
    gateway.log.symlink_to("/dev/full")
    gateway.start()
    call(gateway)
    gateway.stop()
    assert gateway._process is not None
    assert gateway._process.returncode == 0
    assert "Traceback" not in gateway.banner.read_text()
