"""`python -m benchmarks [WORD …]`: measures the loads whose names have one of the words in them (all without any)."""

import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.report import table
from benchmarks.scenarios import LOADS, Row, compare
from benchmarks.targets import Target, gateway, haproxy, nginx, upstream

_REPETITIONS = 3


def main(words: Sequence[str]) -> None:
    """Start everything, measure, print the tables, stop everything."""
    loads = [load for load in LOADS if not words or any(word in load.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder:
        direct = upstream()
        root = Path(folder)
        started: list[Target | None] = [
            direct,
            haproxy(root / "haproxy", direct.port),
            nginx(root / "nginx", direct.port),
            gateway(root / "gateway", direct.port),
        ]
        targets = [target for target in started if target is not None]
        try:
            print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
            for load in loads:
                rows: list[Row] = uvloop.run(compare(load, targets, _REPETITIONS))
                print(table(rows), flush=True)
        finally:
            for target in targets:
                target.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
