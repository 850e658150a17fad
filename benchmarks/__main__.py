"""`python -m benchmarks [--peers] [--kept N] [WORD …]`: the scenarios whose names have one of the words, or all."""

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.machine import machine
from benchmarks.scenarios import PEER_SCENARIOS, SCENARIOS
from benchmarks.stage import Stage

_ROOT = Path(__file__).parent.parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Start what is needed, measure, print the tables, stop everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the gateway beside others.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="scenarios whose names have it; all without any")
    parser.add_argument("--peers", action="store_true", help="other gateways, which are installed into build/")
    parser.add_argument("--kept", type=int, metavar="N", help="turns that a database keeps, where it grows")
    parser.add_argument("--list", action="store_true", help="name the scenarios and measure none")
    chosen = parser.parse_args(arguments)
    scenarios = [
        scenario
        for scenario in (PEER_SCENARIOS if chosen.peers else SCENARIOS)
        if not chosen.words or any(word in scenario.name for word in chosen.words)
    ]
    if chosen.list:
        print("\n".join(scenario.name for scenario in scenarios))
        return
    _allow_many_sockets()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
        Stage(Path(folder), _ROOT / "build" / "peers", chosen.kept) as stage,
    ):
        print(machine(stage.folder), flush=True)
        for scenario in scenarios:
            begun = time.monotonic()
            print(uvloop.run(scenario.measure(stage)), flush=True)
            print(f"<!-- {time.monotonic() - begun:.0f} s -->\n", flush=True)
        with_versions = f" with {', '.join(stage.versions)}" if stage.versions else ""
    print(f"Measured in {time.monotonic() - started:.0f} s{with_versions}.")


def _allow_many_sockets() -> None:
    """As many open files as the system lets this user have, for us and for what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
