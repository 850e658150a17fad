"""A gateway whose database is not there yet says so, and serves once it is; what does not pass ends the start."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from sqlalchemy import make_url

from tests.fakes.gateway import GatewayProcess
from tests.fakes.ports import free_port

pytestmark = pytest.mark.live

_SECONDS = 60.0
_PASSWORD = "hunter2"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def forwarding(port: int, database_url: str) -> AsyncIterator[None]:
    """The database of this URL, on this port of the machine too."""
    url = make_url(database_url)
    folder = url.query.get("host", url.host)
    assert isinstance(folder, str)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = (
            asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{url.port or 5432}")
            if folder.startswith("/")
            else asyncio.open_connection(folder, url.port or 5432)
        )
        there, back = await to
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except OSError:
            pass
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


def through(port: int, database_url: str) -> str:
    url = make_url(database_url).set(host="127.0.0.1", port=port, password=_PASSWORD, query={})
    return url.render_as_string(hide_password=False)


async def answer_of(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """The answer, once it has this status."""
    async with asyncio.timeout(_SECONDS):
        while True:
            try:
                answer = await client.get(path)
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == status:
                    return answer
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("arguments", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)])
@pytest.mark.slow
async def test_a_gateway_waits_for_its_database_and_serves_once_it_is_there(
    arguments: tuple[str, ...], tmp_path: Path, empty_postgresql_url: str
) -> None:
    port = free_port()
    url = through(port, empty_postgresql_url)
    process = GatewayProcess(tmp_path, {"DATABASE_URL": url}, free_port()).launch(*arguments)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
            ready = await answer_of(client, "/readyz", 503)
            assert ready.json() == {
                "status": "not ready",
                "admission": "starting",
                "reason": "the database cannot be reached, or cannot be written to",
            }
            assert (await client.get("/livez")).status_code == 200
            for path in ("/v1/models", "/admin/v1/keys"):
                refused = await client.get(path)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
                assert int(refused.headers["retry-after"]) >= 1
            async with forwarding(port, empty_postgresql_url):
                await answer_of(client, "/readyz", 200)
                headers = {"authorization": f"Bearer {process.key}"}
                asked = {"model": "demo", "input": "Hello!"}
                served = await client.post("/v1/responses", json=asked, headers=headers)
                assert served.status_code == 200
                await asyncio.to_thread(process.stop)  # the way to its database is served by this loop
        lines = [orjson.loads(line) for line in process.log.read_bytes().splitlines()]
        waited = [line for line in lines if line["event"] == "waiting for the database"]
        assert 1 <= len(waited) <= 2
        assert "refused" in waited[0]["cause"]
        assert _PASSWORD not in process.log.read_text() + process.banner.read_text()
    finally:
        process.kill()


@pytest.mark.slow
async def test_the_wait_for_a_database_ends_at_once(tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    process = GatewayProcess(tmp_path, {"DATABASE_URL": url, "ANTIPHON_SHUTDOWN_GRACE_SECONDS": "600"}, free_port())
    process.launch()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
            await answer_of(client, "/readyz", 503)
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.exit_status) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("arguments", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("change", "told"), [({"database": "unheard_of"}, "unheard_of"), ({"username": "nobody_here"}, "nobody_here")]
)
def test_what_does_not_pass_ends_the_start_with_one_line(
    arguments: tuple[str, ...],
    change: dict[str, str],
    told: str,
    tmp_path: Path,
    empty_postgresql_url: str,
) -> None:
    url = make_url(empty_postgresql_url).set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
    process = GatewayProcess(tmp_path, {"DATABASE_URL": url})
    command = [sys.executable, "-m", "app", "serve", "--port", "0", *arguments]
    done = subprocess.run(
        command, env=process.environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("antiphon: ")
    assert told in line
