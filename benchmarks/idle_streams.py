"""Thousands of open streams on one process, in each an event a second: none cut short, and what one of them takes."""

from benchmarks.load import Outcome, drive, percentile
from benchmarks.loads import streamed
from benchmarks.report import failed, table
from benchmarks.stage import DIRECT, HAPROXY, Stage
from benchmarks.usage import Usage, used

_STREAMS = 2000
_EVENTS = 12
_PAUSE_MS = 1000
_OPENED_A_SECOND = 1000
_COLUMNS = (
    *("target", "streams whole", "events lost", "CPU µs per event", "KB per stream", "MB before / at most / after"),
    *("event delay p50 ms", "p99 ms", "added p99 ms", "note"),
)


async def measure_idle_streams(stage: Stage) -> str:
    """Open them within two seconds, stored, and read each to its end; of a gateway that has done nothing before."""
    body = streamed(_EVENTS, _PAUSE_MS)
    with stage.gateway(stage.folder / "idle") as gateway:
        taken: dict[str, tuple[Usage, Outcome]] = {}
        for target in (*stage.targets((DIRECT, HAPROXY)), gateway):
            async with used(target, stage.upstream) as usage:
                outcome = await drive(
                    target.port, [target.post(body)], connections=_STREAMS, each=1, rate=_OPENED_A_SECOND
                )
            taken[target.name] = usage, outcome
    direct = percentile(taken[DIRECT][1].delays, 99)
    return table(
        f"{_STREAMS:,} open streams, stored, an event every {_PAUSE_MS / 1000:.0f} s",
        _COLUMNS,
        [_cells(name, usage, outcome, direct) for name, (usage, outcome) in taken.items()],
    )


def _cells(name: str, usage: Usage, outcome: Outcome, direct: float) -> list[str]:
    p99 = percentile(outcome.delays, 99)
    return [
        name,
        f"{outcome.terminal_events:,} of {_STREAMS:,}",
        f"{_STREAMS * _EVENTS - outcome.events:,}",
        f"{usage.cpu / max(1, outcome.events) * 1e6:.0f}",
        f"{(usage.peak - usage.before) / _STREAMS / 1e3:.0f}",
        f"{usage.before / 1e6:.0f} / {usage.peak / 1e6:.0f} / {usage.after / 1e6:.0f}",
        f"{percentile(outcome.delays, 50) * 1e3:.2f}",
        f"{p99 * 1e3:.2f}",
        f"{(p99 - direct) * 1e3:.2f}",
        failed(outcome.failures),
    ]
