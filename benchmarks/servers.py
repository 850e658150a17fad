"""How the upstream, the proxies that are on the machine and the gateway are started, each as its users run it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.postgres import Postgres
from benchmarks.processes import stop
from benchmarks.target import Target

UPSTREAM_KEYS = ("sk-upstream",)
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

_START_SECONDS = 120.0
_FAST = 4
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"


def upstream() -> Target:
    """The fast upstream; as a target it is the direct way."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE)
    port = process.stdout.readline() if process.stdout else b""
    return Target("direct", int(port), process, share=_FAST)


def gateway(
    name: str,
    data: Path,
    upstream_port: int,
    postgres: Postgres | None = None,
    upstream_keys: Sequence[str] = UPSTREAM_KEYS,
    *,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Target:
    """`antiphon serve`, one process, on the SQLite file in its data folder or on this PostgreSQL."""
    data.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.defpath,
        "ANTIPHON_DATA_DIR": str(data),
        "OPENAI_API_KEY": ",".join(upstream_keys),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        **({"DATABASE_URL": postgres.url} if postgres else {}),
        **settings,
    }
    port = free_port()
    command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
    process = started(command, data / "log", environment, f"http://127.0.0.1:{port}/readyz")
    key = (data / "first-api-key").read_text().strip()
    if postgres is None:
        return Target(name, port, process, key=key)
    return Target(name, port, process, key=key, database=postgres.processes, version=f"PostgreSQL {postgres.version}")


def haproxy(folder: Path, upstream_port: int) -> Target | None:
    """HAProxy on one thread, if it is on the machine: the floor, with no authentication and no state."""
    if (binary := find("haproxy")) is None:
        return None
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 8000\n"
        # Without http-no-delay it holds a stream's events back for up to 0.2 s, to send many in one packet.
        "defaults\n  mode http\n  option http-no-delay\n"
        "  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
        f"frontend bench\n  bind 127.0.0.1:{port}\n  default_backend upstream\n"
        f"backend upstream\n  http-reuse always\n  server one 127.0.0.1:{upstream_port}\n"
    )
    process = started([binary, "-f", str(config), "-db"], folder / "haproxy.log", None, _models(port))
    return Target("haproxy", port, process, share=_FAST)


def nginx(folder: Path, upstream_port: int) -> Target | None:
    """One nginx worker, if it is on the machine."""
    if (binary := find("nginx")) is None:
        return None
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.error.log;\n"
        "events { worker_connections 10000; }\n"
        f"http {{ access_log off; client_max_body_size 64m; client_body_temp_path {folder}/body;\n"
        f"  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
        f"  scgi_temp_path {folder}/s;\n"
        f"  upstream one {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000; location / {{ proxy_pass http://one;\n"
        '    proxy_http_version 1.1; proxy_set_header Connection "";\n'
        "    proxy_buffering off; proxy_request_buffering off; } } }\n"
    )
    process = started([binary, "-c", str(config)], folder / "nginx.log", None, _models(port))
    return Target("nginx", port, process, share=_FAST)


def started(command: list[str], log: Path, environment: dict[str, str] | None, ready: str) -> subprocess.Popen[bytes]:
    """The command's process, once this URL answers 200. Raises RuntimeError with the end of its log otherwise."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(ready, timeout=2):
                return process
        except OSError:
            time.sleep(0.002)
    stop(process)
    raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")


def find(command: str) -> str | None:
    """Where the command is; servers often lie in folders that are on no user's path."""
    return shutil.which(command, path=os.pathsep.join((os.defpath, _SYSTEM_FOLDERS)))


def version(command: str) -> str:
    """The version that the command tells, or that it is not installed."""
    if (binary := find(command)) is None:
        return f"no {command} installed"
    told = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+[.\d]*", told.stdout + told.stderr)
    return f"{command} {number[0] if number else '?'}"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _models(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/models"
