"""The memory that a process may use: the least of what the machine has and what its control groups allow."""

import weakref
from pathlib import Path

import pytest

from app.runtime import memory_limit
from app.runtime.memory_limit import Allocator, budget_bytes, usable_memory

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system in which no control group says anything."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def allow(root: Path, name: str, value: str) -> None:
    place = root / "sys/fs/cgroup" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(value)


def test_without_a_group_it_is_the_machines(root: Path) -> None:
    assert usable_memory(root) > MIB


def test_a_group_of_version_2_bounds_it(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/system.slice/antiphon.service\n")
    allow(root, "system.slice/antiphon.service/memory.max", "max\n")
    allow(root, "system.slice/memory.max", f"{100 * MIB}\n")
    assert usable_memory(root) == 100 * MIB
    allow(root, "system.slice/antiphon.service/memory.max", f"{50 * MIB}\n")
    assert usable_memory(root) == 50 * MIB


def test_in_a_container_the_group_that_is_mounted_bounds_it(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/../../of/the/host\n")
    allow(root, "memory.max", f"{64 * MIB}\n")
    assert usable_memory(root) == 64 * MIB


def test_a_group_of_version_1_bounds_it(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/1\n")
    allow(root, "memory/docker/1/memory.limit_in_bytes", f"{80 * MIB}\n")
    assert usable_memory(root) == 80 * MIB


@pytest.mark.parametrize(
    ("memory", "workers", "budget"),
    [(16, 1, 32), (512, 1, 128), (1024, 2, 128), (512, 8, 32), (24_000, 1, 384)],
)
def test_a_quarter_of_it_is_for_calls(monkeypatch: pytest.MonkeyPatch, memory: int, workers: int, budget: int) -> None:
    monkeypatch.setattr(memory_limit, "usable_memory", lambda: memory * MIB)
    assert budget_bytes(workers) == budget * MIB


def test_an_allocator_that_is_not_known_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "other")
    Allocator().trim()


def test_what_holds_nothing_but_itself_is_freed() -> None:
    class Node:
        """It can be in a cycle."""

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    gone = weakref.ref(node)
    del node
    Allocator().collect()
    assert gone() is None
