"""Measured rows as a Markdown table, with the ratios that are compared between machines."""

from collections.abc import Sequence

from benchmarks.scenarios import Row

_FLOOR = "haproxy"


def table(rows: Sequence[Row]) -> str:
    """One load's table. Ratios are to HAProxy in the same run; added latency is over the direct way."""
    by_name = {row.target: row for row in rows}
    floor, direct = by_name.get(_FLOOR), by_name["direct"]
    lines = [
        f"### {rows[0].load}\n",
        "| target | CPU µs | to HAProxy | per second | p50 ms | p99 ms | added p50 ms | to HAProxy | TTFB ms | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        added = row.p50 - direct.p50
        floor_added = floor.p50 - direct.p50 if floor else 0
        failed = f" ({row.failures} FAILED)" if row.failures else ""
        lines.append(
            f"| {row.target}{failed} | {row.cpu:.0f} | {_ratio(row.cpu, floor.cpu if floor else 0)} | {row.rate:.0f} "
            f"| {row.p50:.2f} | {row.p99:.2f} | {added:.2f} | {_ratio(added, floor_added)} "
            f"| {row.first_byte:.2f} | {row.memory:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(value: float, floor: float) -> str:
    return f"{value / floor:.1f}" if floor > 0 and value > 0 else "-"
