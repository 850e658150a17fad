"""Measured figures as Markdown tables, with the ratios that can be compared between machines."""

from collections.abc import Sequence

from benchmarks.comparison import Row
from benchmarks.loads import Load
from benchmarks.stage import DIRECT, HAPROXY, SQLITE

# A cell that has nothing to say.
NOTHING = "-"
# Of a core, above which a process rather limits what is measured than serves it.
_BUSY = 0.9


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A headed table. A column in which no row has anything is left out."""
    kept = [number for number in range(len(columns)) if any(row[number] != NOTHING for row in rows)]
    lines = [columns, ["---"] * len(columns), *rows]
    return f"### {title}\n\n" + "".join(f"| {' | '.join(line[number] for number in kept)} |\n" for line in lines)


def comparison(load: Load, rows: Sequence[Row]) -> str:
    """One load's table. Ratios are to HAProxy and to us in the same run; what is added is added to the direct way."""
    by_name = {row.target: row for row in rows}
    floor, ours, direct = by_name.get(HAPROXY), by_name.get(SQLITE), by_name[DIRECT]
    columns = (
        *("target", "CPU µs", "times HAProxy", "times ours", "PostgreSQL CPU µs", "per second", "p50 ms", "p99 ms"),
        *("added p50 ms", "times HAProxy", "TTFB ms", "event delay p50 ms", "p99 ms", "added p99 ms"),
        *("MB at rest / load / after", "note"),
    )
    return table(load.name, columns, [_cells(load, row, floor, ours, direct) for row in rows])


def _cells(load: Load, row: Row, floor: Row | None, ours: Row | None, direct: Row) -> list[str]:
    added = row.p50 - direct.p50
    beside = row is not direct
    return [
        row.target,
        f"{row.cpu:.{0 if row.cpu >= 10 else 1}f}",
        ratio(row.cpu, floor.cpu if floor else 0),
        ratio(row.cpu, ours.cpu if ours else 0),
        NOTHING if row.database_cpu is None else f"{row.database_cpu:.0f}",
        f"{row.rate:.0f}",
        f"{row.p50:.2f}",
        f"{row.p99:.2f}",
        f"{added:.2f}" if beside and not load.paced else NOTHING,
        ratio(added, floor.p50 - direct.p50 if floor else 0) if not load.paced else NOTHING,
        f"{row.first_byte:.2f}",
        f"{row.delay_p50:.2f}" if load.paced else NOTHING,
        f"{row.delay_p99:.2f}" if load.paced else NOTHING,
        f"{row.delay_p99 - direct.delay_p99:.2f}" if load.paced and beside else NOTHING,
        f"{row.at_rest:.0f} / {row.at_load:.0f} / {row.afterwards:.0f}",
        _note(row, beside=beside),
    ]


def ratio(value: float, base: float) -> str:
    """How many times the base the value is, or that it cannot be said."""
    if base <= 0 or value <= 0:
        return NOTHING
    times = value / base
    return f"{times:.{0 if times >= 10 else 1 if times >= 1 else 2}f}"


def failed(failures: Sequence[str]) -> str:
    """How many requests failed, and how the first did; nothing to note for none."""
    return f"{len(failures)} FAILED: {failures[0]}" if failures else NOTHING


def _note(row: Row, *, beside: bool) -> str:
    notes = [failed(row.failures)] if row.failures else []
    if row.load_share > _BUSY:
        notes.append(f"load generator at {row.load_share:.0%}")
    if beside and row.upstream_share > _BUSY:
        notes.append(f"upstream at {row.upstream_share:.0%}")
    return "; ".join(notes) or NOTHING
