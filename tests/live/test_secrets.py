"""Invariant 12 for secrets: whatever happens, none is in a log, an answer, a table, a command's output or its title."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from app.__main__ import cli
from app.api import probes
from app.api.admin.admin_routes import ADMIN
from tests.fakes.canaries import spellings
from tests.fakes.quoting import FAULTS, KEY_FAULTS, SERVER_FAULTS, STREAM_FAULTS, quoting
from tests.fakes.upstream import FakeUpstream
from tests.fakes.watched import Watched

pytestmark = pytest.mark.live

SECONDS = 60.0
_UPSTREAMS = ("demo", "filed", "stored")
# Verbs that show something, with what they are given; each is asked for a table and for JSON.
_SHOWS: Mapping[str, tuple[str, ...]] = {
    "projects list": (),
    "projects show": ("default",),
    "keys list": (),
    "keys show": ("{key_id}",),
    "upstreams list": (),
    "upstreams test": ("{account}",),
    "secrets status": (),
    "usage": ("--by", "key,upstream"),
    "calls": (),
    "settings": (),
    "audit": (),
}
_DOES = {
    *("serve", "migrate", "version", "healthcheck", "projects create", "projects update", "projects erase"),
    *(f"keys {verb}" for verb in ("create", "update", "rotate", "block", "unblock", "revoke")),
    *(f"upstreams {verb}" for verb in ("add", "update", "remove", "add-key", "remove-key")),
    *(f"upstreams {verb}" for verb in ("enable", "drain", "disable")),
}


async def populate(watched: Watched) -> None:
    """Under the generated secret: keys in every state, and a stored upstream key."""
    watched.secrets["previous"] = (watched.process.data_dir / "secret.key").read_text().strip()
    async with watched.client("admin") as admin:
        project = (await admin.get("/admin/v1/projects")).json()["data"][0]["id"]
        for name in ("good", "rotated", "revoked", "blocked", "expired", "old"):
            body = {"project_id": project, "name": name, "owner": "ada", "tags": ["a"]}
            watched.ids[name] = await watched.show_key(name, "POST", "/keys", body)
        for name, overlap in (("rotated", 3600), ("old", 0)):
            body = {"overlap_seconds": overlap}
            await watched.show_key(f"{name} after", "POST", f"/keys/{watched.ids[name]}/rotate", body)
        assert (await admin.post(f"/admin/v1/keys/{watched.ids['revoked']}/revoke")).is_success
        assert (await admin.post(f"/admin/v1/keys/{watched.ids['blocked']}/block")).is_success
        served = {"models": ["stored"], "aliases": {"stored": "demo"}, "tier": 0}
        upstream = {"name": "stored", "base_url": watched.upstream.url, **served}
        assert (await admin.post("/admin/v1/upstreams", json=upstream)).is_success
        secret = watched.secret("stored")
        for mistake in (
            {"secret": [secret]},
            {"secret": secret, "weight": 0},
            {"secret": f"{secret}\n"},
            {"name": secret},
        ):
            assert (await admin.post("/admin/v1/upstreams/stored/keys", json=mistake)).status_code == 400
        made = await admin.post("/admin/v1/upstreams/stored/keys", json={"secret": secret, "name": "one"})
        assert made.status_code == 201
        watched.ids |= {"project": project, "account": made.json()["account"]}
    watched.sql(f"UPDATE api_keys SET expires_at = 1 WHERE id = '{watched.ids['expired']}'")  # noqa: S608 - our own id
    watched.take_hashes()


def create(model: str = "demo", **members: Any) -> dict[str, Any]:
    return {"model": model, "input": "Hello!", **members}


async def call_well(watched: Watched) -> None:
    """Good calls: whole, streamed, in the background, through every upstream; and what keys may look at."""
    for name in ("good", "rotated", "rotated after", "first"):
        async with watched.client(name) as client:
            assert (await client.post("/v1/responses", json=create())).is_success
    async with watched.client() as client:
        for model in _UPSTREAMS:
            before = len(watched.upstream.requests)
            assert (await client.post("/v1/responses", json=create(model, stream=True))).is_success
            shown = {request.headers["authorization"] for request in watched.upstream.requests[before:]}
            assert shown == {f"Bearer {watched.secret(model)}"}
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
        for stream in (False, True):
            body = create(background=True, stream=stream, conversation=conversation)
            answer = await client.post("/v1/responses", json=body)
            assert answer.is_success, answer.text
            if not stream:
                await until_ended(client, answer.json()["id"])
        compacted = await client.post("/v1/responses/compact", json={"model": "demo", "input": "Hello!"})
        assert compacted.is_success
        for path in ("/v1/models", "/v1/models/demo", "/v1/usage", f"/v1/conversations/{conversation}/items"):
            assert (await client.get(path)).is_success
        for path in (*(path for _, path, _ in probes.PROBES), "/openapi.json", "/docs"):
            assert (await client.get(path)).is_success
        # There is none today; were there one, it would be looked at.
        await client.get("/metrics")


async def until_ended(client: httpx.AsyncClient, response_id: str) -> None:
    async with asyncio.timeout(SECONDS):
        while (await client.get(f"/v1/responses/{response_id}")).json()["status"] in {"queued", "in_progress"}:
            await asyncio.sleep(0.05)


async def call_refused(watched: Watched) -> None:
    """Credentials that are none: keys that ended, and what a copy of the database or the settings has."""
    refused: dict[str, str | bytes] = {
        name: secret
        for name, secret in watched.secrets.items()
        if name.startswith(("hash", "sealed")) or name in {"revoked", "blocked", "expired", "old", *_UPSTREAMS}
    }
    refused |= {"master": watched.secrets["master"], "previous": watched.secrets["previous"]}
    refused |= {"cut": watched.secret("good")[:-1], "wrong": watched.secret("good").swapcase()}
    async with watched.client() as client:
        del client.headers["authorization"]
        for name, secret in refused.items():
            for spelling in {each.strip() for each in spellings(secret) if each.isascii()}:
                bearer = {"authorization": f"Bearer {spelling.decode()}"}
                for path in ("/v1/models", "/admin/v1/keys"):
                    assert (await client.get(path, headers=bearer)).status_code == 401, name
        for key in ("good", "revoked", "admin"):
            secret = watched.secret(key)
            for headers in ({"x-api-key": f"{secret}x"}, {"authorization": f"Basic {secret}"}, {"cookie": secret}):
                await client.get("/v1/models", headers=headers)
            for path in ("/v1/models", "/v1/responses/resp_x", "/admin/v1/keys", "/readyz", "/nowhere"):
                for name in ("api_key", "key"):
                    await client.get(path, params={name: secret})
                    await client.get(path, params={name: secret}, headers={"authorization": f"Bearer {secret}"})
            good = {"authorization": f"Bearer {secret}"}
            await client.post("/v1/responses", params={"api_key": secret}, json=create(), headers=good)
            await client.post("/v1/responses", content=b"{", headers=good)
            await client.get("/v1/responses", headers={**good, "upgrade": "websocket", "connection": "upgrade"})


async def call_faulty(watched: Watched) -> None:
    """Upstreams that quote the key wherever they can, that close their port, and that refuse the key."""
    async with watched.client() as client, watched.client("admin") as admin:
        for fault in (*FAULTS, *STREAM_FAULTS, *SERVER_FAULTS):
            watched.upstream.respond = quoting(fault)
            for model in _UPSTREAMS:
                for stream in (False, True):
                    await client.post("/v1/responses", json=create(model, stream=stream))
            run = await client.post("/v1/responses", json=create("stored", background=True))
            # In the end all accounts rest, and a run waits until they do not.
            if fault not in SERVER_FAULTS:
                await until_ended(client, run.json()["id"])
                await client.post("/v1/responses", json=create("stored", background=True, stream=True))
        # Its own upstream has closed its port.
        await client.post("/v1/responses", json=create("closed"))
        for fault in KEY_FAULTS:
            watched.upstream.respond = quoting(fault)
            for model in _UPSTREAMS:
                assert (await client.post("/v1/responses", json=create(model))).status_code >= 400
            tested = await admin.post(f"/admin/v1/accounts/{watched.ids['account']}/test")
            assert not tested.json()["ok"]
            assert (await client.get("/v1/models")).is_success


async def break_down(watched: Watched) -> None:
    """A config file with the very key in it, one that is no TOML, a table that is gone, a turn that cannot be read."""
    secret = watched.secret("filed")
    for number, mistake in enumerate(
        (
            f'[[upstream]]\nname = "{secret}"\nbase_url = "http://x.example/{secret} "\nkeys = ["{secret}"]\n',
            f'[storage]\nsecret_key = "{secret}"\ndatabase_url = "postgresql://a:{secret}@x.example/a"\n',
            f'[[upstream]]\nkeys = ["{secret}\n',
        ),
        1,
    ):
        watched.configure(mistake)
        os.kill(watched.process.pid, signal.SIGHUP)
        async with asyncio.timeout(SECONDS):
            while watched.process.log.read_text().count("the settings were not read again") < number:
                await asyncio.sleep(0.02)
    watched.configure()
    # A key that was never used: those that were are remembered for a while.
    async with watched.client("old after") as client, watched.client("admin") as admin:
        watched.sql("ALTER TABLE api_keys RENAME TO hidden")
        assert (await client.get("/v1/models")).status_code == 503
        assert (await admin.get("/admin/v1/keys")).status_code == 503
        watched.sql("ALTER TABLE hidden RENAME TO api_keys")
        made = (await client.post("/v1/responses", json=create())).json()
        watched.sql("UPDATE responses SET outline = body")
        answer = await client.post("/v1/responses", json=create(previous_response_id=made["id"]))
        assert answer.status_code == 500
    await watched.until_logged("Traceback")


async def look_as_administrator(watched: Watched) -> None:
    """Every GET under /admin/v1, and the answers to changes."""
    names = {"project_id": watched.ids["project"], "key_id": watched.ids["rotated"]}
    async with watched.client("admin") as admin:
        for method, path, _ in ADMIN:
            if method == "GET":
                assert (await admin.get(f"/admin/v1{path.format(**names)}")).is_success, path
        for query in ("group_by=key,upstream,model", "format=csv&group_by=key,upstream"):
            assert (await admin.get(f"/admin/v1/usage?{query}")).is_success
        for verb in ("drain", "disable", "enable"):
            assert (await admin.post(f"/admin/v1/accounts/{watched.ids['account']}/{verb}")).is_success
        key = (await admin.get(f"/admin/v1/keys/{watched.ids['good']}")).json()
        changed = await admin.patch(f"/admin/v1/keys/{key['id']}", json={"version": key["version"], "name": "else"})
        assert changed.is_success


def look_as_operator(watched: Watched) -> None:
    """Every verb that shows something, as a table and as JSON."""
    assert {*verbs(typer.main.get_command(cli))} == _SHOWS.keys() | _DOES
    cleared = {name: "" for name in os.environ if name.startswith(("ANTIPHON_", "OPENAI_", "DATABASE_URL"))}
    environment = {**cleared, **watched.environment}
    names = {"key_id": watched.ids["rotated"], "account": watched.ids["account"]}
    for verb, arguments in _SHOWS.items():
        for form in ((), ("--json",)):
            typed = [*verb.split(), *(argument.format(**names) for argument in arguments), *form]
            done = CliRunner().invoke(cli, typed, env=environment)
            assert done.exit_code in {0, 1}, done.output
            watched.said.add(f"antiphon {' '.join(typed)}", f"{done.stdout}{done.stderr}")


def verbs(command: object, name: str = "") -> Iterator[str]:
    """Every verb of the command, as it is typed."""
    if not isinstance(command, TyperGroup):
        yield name
        return
    for word, part in command.commands.items():
        yield from verbs(part, f"{name} {word}".strip())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def watched(request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Watched]:
    """A gateway that writes its first secret itself, and then is given another."""
    url = request.getfixturevalue("empty_postgresql_url") if request.param == "postgresql" else None
    watched = Watched(tmp_path, upstream, url)
    watched.start()
    yield watched
    watched.process.stop()


@pytest.mark.slow
async def test_no_secret_leaves(watched: Watched) -> None:
    await populate(watched)
    await call_well(watched)
    watched.process.stop()
    refused = {"ANTIPHON_SECRET_KEY": watched.secret("another")}
    watched.refuses_to_start("The database was made with", **refused)
    refused = {"DATABASE_URL": f"postgresql://a:{watched.secret('another')}@127.0.0.1:1/a"}
    await watched.waits_for_its_database(**refused)
    watched.refuses_to_start("at least 16 characters", ANTIPHON_PREVIOUS_SECRET_KEYS=f"{watched.secret('previous')},x")
    rotated = {"ANTIPHON_SECRET_KEY": watched.secret("master")}
    watched.start(**rotated, ANTIPHON_PREVIOUS_SECRET_KEYS=watched.secret("previous"))
    await call_well(watched)
    watched.take_hashes()
    await call_refused(watched)
    await look_as_administrator(watched)
    await asyncio.to_thread(look_as_operator, watched)
    await break_down(watched)
    await call_faulty(watched)
    await look_as_administrator(watched)
    watched.process.stop()
    watched.take_hashes()
    assert watched.leaks() == set()
