"""How the app is run: uvicorn, with a shutdown that lets live responses finish."""

import asyncio
import multiprocessing
import re
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import InvalidRequestError
from app.ids import new_request_id
from app.relay.registry import Registry
from app.settings import ServerSettings

# Time to end and commit the responses that did not finish within the budget.
_ENDING_SECONDS = 5.0
_TICK_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_BACKLOG = 4096
_KEEP_ALIVE_SECONDS = 75
_H2C = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with our errors, and safe from requests that ask for another protocol.

    The parser takes such a request to have no body, and the body for the next request. So the offer of HTTP/2 that
    Java's client makes with its first call is not shown to it, and after any other the connection ends with the answer.
    """

    _between_requests = True
    _refused = False
    _lost = False
    _on_lost: Callable[[], None] | None = None

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Call `gone` when the client's connection is lost; at once if it is."""
        self._on_lost = gone
        if gone is not None and self._lost:
            gone()

    def push(self, body: bytes) -> bool:
        """Write a piece of the streamed answer that is under way, if the client has taken what came before."""
        cycle = self.cycle
        if not cycle.chunked_encoding or cycle.response_complete or self._lost or self.flow.write_paused:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        if self._on_lost is not None:
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._between_requests and b"h2c" in data:
            head, blank, rest = data.partition(b"\r\n\r\n")
            data = _H2C.sub(b"", head + blank) + rest
        super().data_received(data)
        # One whose head could not be read has no cycle, and its connection is closed already.
        if self.parser.should_upgrade() and self.cycle is not None:
            self._refused = True
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the shape that every other error has."""
        body = InvalidRequestError(msg).body()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-request-id: {new_request_id()}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        self._between_requests = False
        super().on_message_begin()
        self.scope["extensions"] = {"antiphon": {"connection": self}}

    def on_message_complete(self) -> None:
        self._between_requests = True
        super().on_message_complete()


class GatewayServer(uvicorn.Server):
    """A uvicorn server whose shutdown first drains the registry: admission closes, streams finish or are ended."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while the sockets are still open, then let uvicorn close them."""
        app = self.config.loaded_app
        registry: Registry = app.state.services.registry
        drained = registry.spawn(registry.drain(self._drain_seconds, _ENDING_SECONDS))
        # A second interrupt means now: uvicorn sets force_exit, and what was announced is committed already.
        while not self.force_exit and not drained.done():
            await asyncio.wait({drained}, timeout=_TICK_SECONDS)
        await super().shutdown(sockets)
        if not self.force_exit:
            # uvicorn raises the signal again once it is done: a clean stop would end with the status of a kill.
            self._captured_signals.clear()


def serve(app: FastAPI, settings: ServerSettings, listener: socket.socket) -> None:
    """Serve in this process until a signal ends it."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(_ENDING_SECONDS),
    )
    GatewayServer(config, settings.drain_seconds).run(sockets=[listener])


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
    while not stopping.wait(_RESTART_SECONDS):
        processes = [process if process.is_alive() else start() for process in processes]
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def listen(settings: ServerSettings) -> socket.socket:
    """Bind the listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay (40 ms an answer) off only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A client that reads nothing keeps its connection open for ever, even when we have closed ours: the kernel ends it.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout_seconds * 1000))
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(True)
    return listener
