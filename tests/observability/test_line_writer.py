"""A log that cannot be written: nobody waits for it, nobody fails by it, and what it lost is said."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.observability import line_writer
from app.observability.line_writer import LineWriter


def told(count: int) -> bytes:
    return b"dropped %d\n" % count


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reads, writes = os.pipe()
    yield reads, writes
    for end in (reads, writes):
        with suppress(OSError):
            os.close(end)


def read_until(reads: int, ends: Callable[[bytes], bool]) -> bytes:
    got = b""
    while not ends(got):
        got += os.read(reads, 65_536)
    return got


def test_lines_are_written_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    lines = LineWriter(writes, told)
    for number in range(1000):
        lines.write(b"line %d\n" % number)
    expected = b"".join(b"line %d\n" % number for number in range(1000))
    assert read_until(reads, lambda got: len(got) >= len(expected)) == expected
    lines.close(5)


@pytest.mark.parametrize(("is_shared", "most"), [(True, 4096), (False, 65_536)])
def test_no_write_is_longer_than_a_pipe_takes_beside_other_processes_unless_a_line_is(
    monkeypatch: pytest.MonkeyPatch,
    pipe: tuple[int, int],
    is_shared: bool,
    most: int,
) -> None:
    reads, writes = pipe
    sizes: list[int] = []
    write = os.write

    def watched(descriptor: int, data: memoryview) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    lines = LineWriter(writes, told, is_shared=is_shared)
    for _ in range(100):
        lines.write(b"x" * 999 + b"\n")
    lines.write(b"y" * 99_999 + b"\n")
    read_until(reads, lambda got: got.endswith(b"y\n"))
    assert sum(sizes) == 200_000
    assert most - 1000 < max(sizes[:-1]) <= most
    lines.close(5)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_pipe_that_nobody_reads_holds_up_nobody_and_its_reader_is_told_what_was_dropped(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], blocks: bool
) -> None:
    monkeypatch.setattr(line_writer, "_MOST_BYTES", 200_000)
    reads, writes = pipe
    os.set_blocking(writes, blocks)
    lines = LineWriter(writes, told)
    done = threading.Event()

    def speak() -> None:
        for number in range(5000):
            lines.write(b"%099d\n" % number)
        done.set()

    threading.Thread(target=speak, daemon=True).start()
    assert done.wait(20)
    began = time.monotonic()
    lines.flush(0.05)
    assert time.monotonic() - began < 10
    got = read_until(reads, lambda got: b"dropped" in got and got.endswith(b"\n")).splitlines()
    numbers = [int(line) for line in got if not line.startswith(b"dropped")]
    assert numbers == list(range(len(numbers)))
    assert sum(int(line.split()[1]) for line in got if line.startswith(b"dropped")) == 5000 - len(numbers) > 0
    lines.close(5)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF])
def test_lines_that_fail_are_counted_and_the_next_that_does_not_begins_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int
) -> None:
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = os.write
    room = 12

    def limited(target: int, data: memoryview) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(error, "no")
        written = write(target, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    lines = LineWriter(descriptor, told)
    for number in range(4):
        lines.write(b"line %d\n" % number)
    lines.flush(10)
    room = 10_000
    lines.write(b"after\n")
    lines.close(10)
    assert file.read_bytes() == b"line 0\nline \nafter\ndropped 3\n"
    os.close(descriptor)


def test_a_full_disk_neither_fails_nor_holds_up(tmp_path: Path) -> None:
    lines = LineWriter(os.open("/dev/full", os.O_WRONLY), told)
    for _ in range(1000):
        lines.write(b"line\n")
    lines.flush(10)
    assert lines._dropped == 1000
    lines.close(10)


@pytest.mark.parametrize("descriptor", [None, 999_999])
def test_without_a_descriptor_all_is_dropped(descriptor: int | None) -> None:
    lines = LineWriter(descriptor, told)
    lines.write(b"line\n")
    lines.close(10)
    assert lines._dropped == 1


def test_whoever_gets_the_number_of_a_closed_descriptor_gets_none_of_the_lines(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    reads, writes = pipe
    lines = LineWriter(writes, told)
    os.close(writes)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    assert other == writes
    lines.write(b"ours\n")
    assert os.read(reads, 100) == b"ours\n"
    assert (tmp_path / "other").read_bytes() == b""
    lines.close(10)
