"""What is measured: the gateway as a user runs it, the proxies that are on the machine, and upstream by itself."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

_START_SECONDS = 30.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Target:
    """A running server: where it listens, what it wants in a request's head, and its processes."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]]
    key: str = "none"

    def cpu_seconds(self) -> float:
        """CPU time of its processes and theirs so far, from the operating system's accounting."""
        return sum(_cpu(pid) for pid in self._pids())

    def memory_bytes(self) -> int:
        """Resident memory of its processes."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in self._pids())

    def request(self, body: Mapping[str, object]) -> bytes:
        """One POST /v1/responses with this body."""
        content = orjson.dumps(body)
        head = (
            f"POST /v1/responses HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)

    def _pids(self) -> list[int]:
        found = [process.pid for process in self.processes]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found.extend(map(int, children))
        return found


def upstream() -> Target:
    """The fast upstream; as a target it is the direct way."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE)
    port = process.stdout.readline() if process.stdout else b""
    return Target("direct", int(port), [process])


def gateway(folder: Path, upstream_port: int, database_url: str | None = None, name: str = "antiphon") -> Target:
    """`antiphon serve`, one process, on a real SQLite file or the PostgreSQL at this URL."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.defpath,
        "ANTIPHON_DATA_DIR": str(folder / "data"),
        "OPENAI_API_KEY": "sk-upstream",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        **({"DATABASE_URL": database_url} if database_url else {}),
    }
    banner = folder / "banner"
    with banner.open("wb") as errors, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0"], env=environment, stdout=log, stderr=errors
        )
    deadline = time.monotonic() + _START_SECONDS
    while not (found := re.search(r"serves +http://127\.0\.0\.1:(\d+)/v1", banner.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(banner.read_text())
        time.sleep(0.005)
    port = int(found[1])
    _wait_until_ready(port, deadline)
    return Target(name, port, [process], (folder / "data" / "first-api-key").read_text().strip())


def haproxy(folder: Path, upstream_port: int) -> Target | None:
    """HAProxy on one thread, if it is on the machine: the floor, with no authentication and no state."""
    if (binary := shutil.which("haproxy") or _existing("/usr/sbin/haproxy")) is None:
        return None
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 8000\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
        f"frontend bench\n  bind 127.0.0.1:{port}\n  default_backend upstream\n"
        f"backend upstream\n  http-reuse always\n  server one 127.0.0.1:{upstream_port}\n"
    )
    return _started(Target("haproxy", port, [subprocess.Popen([binary, "-f", str(config), "-db"])]))


def nginx(folder: Path, upstream_port: int) -> Target | None:
    """One nginx worker, if it is on the machine."""
    if (binary := shutil.which("nginx") or _existing("/usr/sbin/nginx")) is None:
        return None
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 10000; }\n"
        f"http {{ access_log off; client_max_body_size 64m; client_body_temp_path {folder}/body;\n"
        f"  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
        f"  scgi_temp_path {folder}/s;\n"
        f"  upstream one {{ server 127.0.0.1:{upstream_port}; keepalive 256; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000; location / {{ proxy_pass http://one;\n"
        '    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }\n'
    )
    return _started(Target("nginx", port, [subprocess.Popen([binary, "-c", str(config)])]))


def _started(target: Target) -> Target:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", target.port)) == 0:
                return target
        time.sleep(0.02)
    raise RuntimeError(f"{target.name} did not start")


def _wait_until_ready(port: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError("the gateway is not ready")


def _existing(path: str) -> str | None:
    return path if Path(path).exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cpu(pid: int) -> float:
    # In nanoseconds for each thread; the usual accounting counts ticks of 10 ms, too coarse for a proxy written in C.
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
