"""A server that is measured: where it listens, how it is asked, and which processes serve."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from benchmarks.processes import Processes, stop

_MODEL = "bench"


@dataclass
class Target:
    """A running server.

    `key` and `model` are what a request to it says. `share` is the part of a load's requests that it gets: more for
    what is done in no time, fewer for what takes minutes. `database` is a server of its own beside the process, and
    `version` what of all this has one that a report should tell.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    key: str = "none"
    model: str = _MODEL
    share: float = 1
    database: Processes | None = None
    version: str = ""
    at_rest: int = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.process.pid)
        self.at_rest = self.processes.memory_bytes()

    def post(self, body: Mapping[str, object], key: str | None = None, path: str = "/v1/responses") -> bytes:
        """One POST with this body, to /v1/responses and with the target's key unless others are given."""
        content = orjson.dumps({"model": self.model, **body})
        return self._head(f"POST {path}", len(content), key) + content

    def get(self, path: str) -> bytes:
        """One GET of this path."""
        return self._head(f"GET {path}", 0)

    def call(self, verb: str, path: str, body: Mapping[str, object] | None = None, key: str | None = None) -> bytes:
        """One call of another path than that of responses, with the target's key unless another is given."""
        content = b"" if body is None else orjson.dumps(body)
        return self._head(f"{verb} {path}", len(content), key) + content

    def stop(self) -> None:
        stop(self.process)

    def _head(self, call: str, length: int, key: str | None = None) -> bytes:
        return (
            f"{call} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key or self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()
