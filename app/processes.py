"""Worker processes on one socket: started, replaced, told to read the settings again, ended. Not what they do."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess

_RESTART_SECONDS = 1.0


def serve_with_workers(work: Callable[[socket.socket], None], workers: int, listener: socket.socket) -> None:
    """Run `work` in this many processes on one socket, and again in place of one that dies, until a signal comes."""
    spawn = multiprocessing.get_context("spawn")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    def start() -> SpawnProcess:
        process = spawn.Process(target=work, args=(listener,))
        process.start()
        return process

    processes = [start() for _ in range(workers)]
    signal.signal(signal.SIGHUP, lambda *_: _pass_on(processes))
    while not stopping.wait(_RESTART_SECONDS):
        processes[:] = [process if process.is_alive() else start() for process in processes]
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _pass_on(processes: Sequence[SpawnProcess]) -> None:
    """Have these processes read the settings again."""
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGHUP)
