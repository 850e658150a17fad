"""Whether the event loop turns, as a process: `python -m tests.faults.probe URL`, until its input ends.

Asks for /livez over a new connection every 20 ms, one call after another. Prints the number of calls, how many failed,
and the median, 99th percentile and longest time in milliseconds.
"""

import json
import select
import socket
import sys
import time
from urllib.parse import urlsplit

_PAUSE_SECONDS = 0.02
_TIMEOUT_SECONDS = 10.0


def _ask(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, _TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
            return connection.recv(65_536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _main(url: str) -> None:
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 0
    times: list[float] = []
    failed = 0
    while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
        began = time.perf_counter()
        failed += not _ask(address)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    shown = {"median": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "longest": times[-1]}
    print(json.dumps({"calls": len(times), "failed": failed, **shown}), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
