"""A gateway process of which every word is kept, with secrets of every kind that it can have."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from app.storage.engine.location import DatabaseLocation
from tests.fakes.canaries import Evidence
from tests.fakes.gateway import GatewayProcess
from tests.fakes.ports import free_port
from tests.fakes.upstream import FakeUpstream

SECONDS = 60.0
_HASHES = {"api_keys.key_hash", "api_keys.previous_hash"}
_DATABASE_FILES = {"antiphon.db", "antiphon.db-wal", "antiphon.db-shm"}
# Where each may be, by its name or the first word of it.
_KEPT = {
    "previous": {"secret.key"},
    "first": {"first-api-key"},
    "admin": {"first-admin-key"},
    "filed": {"upstream-key"},
    "hash": _HASHES | _DATABASE_FILES,
    "sealed": {"upstream_keys.secret"} | _DATABASE_FILES,
}


class Watched:
    """A gateway of which every word is kept, with secrets of every kind."""

    def __init__(self, folder: Path, upstream: FakeUpstream, database_url: str | None) -> None:
        self.folder = folder
        self.upstream = upstream
        self.said = Evidence()
        self.config = folder / "antiphon.toml"
        self.secrets: dict[str, str | bytes] = {
            "demo": f"sk-{token_urlsafe(24)}",
            # Not in the form that the log knows.
            "filed": f"gsk_{token_urlsafe(24)}",
            "stored": token_urlsafe(24),
            "master": token_urlsafe(24),
            "another": token_urlsafe(24),
        }
        (folder / "upstream-key").write_text(self.secret("filed"))
        self.environment = {
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_API_KEY": self.secret("demo"),
            "ANTIPHON_CONFIG": str(self.config),
            "ANTIPHON_ALLOW_PRIVATE_UPSTREAMS": "true",
            "ANTIPHON_LOG_LEVEL": "debug",
            "ANTIPHON_POOL_WAIT_SECONDS": "2",
            "ANTIPHON_KEY_CACHE_SECONDS": "0",
            "ANTIPHON_FAILED_KEYS_PER_MINUTE": "10000",
            "ANTIPHON_SECRET_KEY": "",
        }
        self.database_url = f"sqlite:///{folder / 'data' / 'antiphon.db'}"
        if database_url is not None:
            self.secrets["admin"] = token_urlsafe(24)
            url = make_url(database_url)
            if not url.password:
                # The server asks for none, and so takes any.
                self.secrets["password"] = token_urlsafe(24)
                url = url.set(password=self.secret("password"))
            self.database_url = url.render_as_string(hide_password=False)
            self.environment |= {
                "DATABASE_URL": self.database_url,
                "ANTIPHON_LOG_FORMAT": "console",
                "ANTIPHON_ADMIN_KEY": self.secret("admin"),
            }
        self.configure()
        self.process = GatewayProcess(folder, self.environment)
        self.ids: dict[str, str] = {}

    def configure(self, more: str = "") -> None:
        """Write a config file that refers to its keys, and has this at its end."""
        key = f'keys = ["file:{self.folder / "upstream-key"}"]'
        self.config.write_text(
            f'[[upstream]]\nname = "filed"\nbase_url = "{self.upstream.url}"\nmodels = ["filed"]\n'
            f'aliases = {{ filed = "demo" }}\n{key}\n'
            f'[[upstream]]\nname = "closed"\nbase_url = "http://127.0.0.1:1/v1"\nmodels = ["closed"]\n{key}\n{more}'
        )

    def start(self, **environment: str) -> None:
        """Start it, again, with more of an environment."""
        self.environment |= environment
        self.process = GatewayProcess(self.folder, self.environment).start()
        if "first" not in self.secrets:
            self.secrets["first"] = self.process.key
        if "admin" not in self.secrets:
            self.secrets["admin"] = self.process.admin_key
        self.said.add("banner", self.process.banner.read_text())
        self.said.add("command line", Path(f"/proc/{self.process.pid}/cmdline").read_bytes())

    def refuses_to_start(self, told: str, **environment: str) -> None:
        """Start one that must not start, for this reason."""
        refused = GatewayProcess(self.folder, {**self.environment, **environment})
        with pytest.raises(AssertionError) as caught:
            refused.start()
        said = refused.banner.read_text()
        assert told in said, said
        self.said.add("refusal to start", f"{said}{caught.value}")

    async def waits_for_its_database(self, **environment: str) -> None:
        """Start one whose database is not there, and keep what it says of that."""
        port = free_port()
        waiting = GatewayProcess(self.folder, {**self.environment, **environment}, port)
        waiting.log = self.folder / "waiting.log"
        waiting.launch()
        # It listens a moment after it has said what it waits for.
        patient = httpx.AsyncHTTPTransport(retries=8)
        base_url = f"http://127.0.0.1:{port}"
        try:
            async with asyncio.timeout(SECONDS), httpx.AsyncClient(base_url=base_url, transport=patient) as client:
                while "waiting for the database" not in waiting.log.read_text():
                    await asyncio.sleep(0.05)
                for path in ("/readyz", "/v1/models", "/admin/v1/keys"):
                    answer = await client.get(path)
                    assert answer.status_code == 503
                    await self.said.add_answer(answer)
        finally:
            waiting.stop()
        self.said.add("waiting for its database", waiting.log.read_text() + waiting.banner.read_text())

    def client(self, key: str = "first") -> httpx.AsyncClient:
        """A client with the secret of this name, all of whose answers are kept."""
        return httpx.AsyncClient(
            base_url=self.process.url,
            headers={"authorization": f"Bearer {self.secret(key)}"},
            timeout=SECONDS,
            event_hooks={"response": [self.said.add_answer]},
        )

    async def show_key(self, name: str, method: str, path: str, body: Mapping[str, Any]) -> str:
        """Make or rotate a key: its answer may show it, once. Returns its id."""
        headers = {"authorization": f"Bearer {self.secret('admin')}"}
        async with httpx.AsyncClient(
            base_url=f"{self.process.url}/admin/v1", headers=headers, timeout=SECONDS
        ) as client:
            answer = await client.request(method, path, json=body)
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        self.secrets[name] = made["key"]
        self.said.add(f"answer that shows {name}", f"{answer.headers}{answer.text}", showing=[made["key"]])
        return str(made["id"])

    def secret(self, name: str) -> str:
        """The text of the secret of this name."""
        return str(self.secrets[name])

    def sql(self, statement: str) -> list[Any]:
        engine = create_engine(DatabaseLocation.parse(self.database_url).url, poolclass=NullPool)
        with engine.begin() as connection:
            done = connection.execute(text(statement))
            return [*done.all()] if done.returns_rows else []

    def take_hashes(self) -> None:
        """From here on look for the hashes and the sealed keys that the database has now, too."""
        for key_id, *hashes in self.sql("SELECT id, key_hash, previous_hash FROM api_keys"):
            self.secrets |= {f"hash {each.hex()[:6]} of {key_id}": each for each in hashes if each}
        for key_id, sealed in self.sql("SELECT id, secret FROM upstream_keys"):
            self.secrets[f"sealed {key_id} {sealed[-6:]}"] = sealed.rpartition(".")[2]

    async def until_logged(self, event: str) -> None:
        async with asyncio.timeout(SECONDS):
            while event not in self.process.log.read_text():
                await asyncio.sleep(0.02)

    def leaks(self) -> set[tuple[str, str]]:
        """Each secret that was said or written where it is not kept, and the place."""
        self.said.add_rows(self.database_url)
        self.said.add_files(self.folder)
        first_words = {name: name.partition(" ")[0] for name in self.secrets}
        return self.said.leaks(self.secrets, {name: _KEPT.get(word, set()) for name, word in first_words.items()})
