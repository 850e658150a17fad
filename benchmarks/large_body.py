"""A 20 MB request (an image as a data URL): what it costs, and how long a small request beside it has to wait."""

import asyncio
import base64
import os
from dataclasses import dataclass

from benchmarks.load import Outcome, connected, drive, percentile
from benchmarks.loads import asked
from benchmarks.report import failed, ratio, table
from benchmarks.stage import DIRECT, HAPROXY, NGINX, Stage
from benchmarks.target import Target
from benchmarks.usage import Usage, used

_IMAGE_BYTES = 15_000_000
_REPEATED = 6
_ALONE = 300
_COLUMNS = (
    *("target", "CPU ms", "times HAProxy", "p50 ms", "small request alone p50 ms", "beside it p50 ms", "p99 ms"),
    *("longest ms", "MB before / at most / after", "note"),
)


@dataclass(frozen=True)
class _Seen:
    usage: Usage
    large: Outcome
    alone: Outcome
    beside: Outcome

    @property
    def cpu(self) -> float:
        """In milliseconds for one large request and the small ones beside it."""
        return self.usage.cpu / _REPEATED * 1e3


async def measure_large_body(stage: Stage) -> str:
    """One large request after another, and small ones back to back beside them, `store: false`."""
    url = "data:image/png;base64," + base64.b64encode(os.urandom(_IMAGE_BYTES)).decode()
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
    body = {"store": False, "input": [{"role": "user", "content": content}]}
    with stage.gateway(stage.folder / "large") as gateway:
        targets = [*stage.targets((DIRECT, HAPROXY, NGINX)), gateway]
        seen = {target.name: await _measure(target, stage.upstream, target.post(body)) for target in targets}
    floor = seen[HAPROXY].cpu if HAPROXY in seen else 0
    return table("A body of 20 MB", _COLUMNS, [_cells(name, one, floor) for name, one in seen.items()])


async def _measure(target: Target, upstream: Target, large: bytes) -> _Seen:
    small = target.post(asked(store=False))
    alone = await drive(target.port, [small], connections=1, each=_ALONE)
    seen_large, beside = Outcome(), Outcome()
    done = asyncio.Event()

    async def ask_small() -> None:
        async with connected(target.port, beside) as connection:
            while not done.is_set():
                await connection.ask(small)
                # So many that the longest wait is seen, so few that they are not the load.
                await asyncio.sleep(0.002)

    async with used(target, upstream) as usage, asyncio.TaskGroup() as group:
        group.create_task(ask_small())
        async with connected(target.port, seen_large) as connection:
            for _ in range(_REPEATED):
                await connection.ask(large)
        done.set()
    return _Seen(usage, seen_large, alone, beside)


def _cells(name: str, seen: _Seen, floor: float) -> list[str]:
    usage = seen.usage
    return [
        name,
        f"{seen.cpu:.1f}",
        ratio(seen.cpu, floor),
        f"{percentile(seen.large.latencies, 50) * 1e3:.0f}",
        f"{percentile(seen.alone.latencies, 50) * 1e3:.2f}",
        f"{percentile(seen.beside.latencies, 50) * 1e3:.2f}",
        f"{percentile(seen.beside.latencies, 99) * 1e3:.2f}",
        f"{percentile(seen.beside.latencies, 100) * 1e3:.1f}",
        f"{usage.before / 1e6:.0f} / {usage.peak / 1e6:.0f} / {usage.after / 1e6:.0f}",
        failed(seen.large.failures + seen.beside.failures),
    ]
