"""Each error that the OpenAPI document has for a call is reached, and has the envelope that it says."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.administration.audit import Audit
from app.api.client_address import Addresses
from app.errors import ConflictError
from tests.fakes.described import Described
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

MASTER_KEY = "the master key of these tests"
_MOST_BYTES = 2000
_IDS = {
    "conversation_id": "conv_none",
    "account": "none/0000",
    "name": "none",
}
# What a call needs to get to where its thing is looked for.
_BODIES: Mapping[str, Any] = {
    "create_response": {"model": "demo", "input": "x", "conversation": "conv_none"},
    "compact_context": {"model": "demo", "input": [{"type": "item_reference", "id": "msg_none"}]},
    "count_input_tokens": {"model": "demo", "input": "x", "conversation": "conv_none"},
    "create_chat_completion": {"model": "demo", "messages": [{"role": "user", "content": "x"}]},
    "create_embeddings": {"model": "demo", "input": "x"},
    "create_conversation": {"items": [{"type": "item_reference", "id": "msg_none"}]},
    "create_items": {"items": [{"role": "user", "content": "x"}]},
    "update_conversation": {"metadata": {}},
    "create_project": {"name": "new"},
    "update_project": {"version": 1, "name": "other"},
    "create_key": {"project_id": "none", "name": "new"},
    "update_key": {"version": 1, "name": "other"},
    "rotate_key": {"overlap_seconds": 0},
    "create_upstream": {"name": "new", "base_url": "https://8.8.8.8/v1"},
    "update_upstream": {"version": 1, "tier": 2},
    "add_upstream_key": {"secret": "sk-another-key"},
}
_BAD_QUERIES: Mapping[str, str] = {
    "retrieve_response": "stream=true&starting_after=-1",
    "list_input_items": "limit=0",
    "list_items": "limit=0",
}


class Caller:
    """Makes the calls that the document has, each by its name."""

    def __init__(self, gateway: LiveGateway, http: httpx2.AsyncClient) -> None:
        assert gateway.described is not None
        self.described: Described = gateway.described
        self.gateway = gateway
        self._http = http
        self._calls: dict[str, tuple[str, str]] = {
            operation["operationId"]: (method.upper(), path)
            for path, methods in self.described.description.document["paths"].items()
            for method, operation in methods.items()
            if operation["tags"] != ["health"]
        }

    def promised(self, status: str) -> Iterator[str]:
        """The calls that may be answered so."""
        for name, at, _ in sorted(self.described.description.documented()):
            if at == status and name in self._calls:
                yield name

    def seen(self, status: str) -> set[str]:
        """The calls that were answered so."""
        return {name for name, at, _ in self.described.seen if at == status}

    def administers(self, name: str) -> bool:
        """Whether the call is an administrator's."""
        return self._calls[name][1].startswith("/admin")

    def _key(self, name: str) -> str:
        return MASTER_KEY if self.administers(name) else self.gateway.key

    def path(self, call: str, ids: Mapping[str, str] = _IDS) -> str:
        return re.sub(r"{(\w+)}", lambda found: {**_IDS, **ids}.get(found[1], "none"), self._calls[call][1])

    async def call(
        self,
        name: str,
        status: int,
        *,
        key: str | None = "",
        body: Any = ...,
        query: str = "",
        ids: Mapping[str, str] = _IDS,
        **options: Any,
    ) -> None:
        """Make a call that is answered so. An empty key is a good one."""
        method, _ = self._calls[name]
        headers = {
            **options.pop("headers", {}),
            **({"authorization": f"Bearer {key or self._key(name)}"} if key is not None else {}),
        }
        body = _BODIES.get(name, ...) if body is ... else body
        if body is not ... and "content" not in options:
            options["json"] = body
        url = f"{self.path(name, ids)}?{query}"
        answer = await self._http.request(method, url, headers=headers, **options)
        assert answer.status_code == status, (name, answer.text)

    async def made(self, path: str, body: Any) -> dict[str, Any]:
        """What a POST makes."""
        key = MASTER_KEY if path.startswith("/admin") else self.gateway.key
        answer = await self._http.post(path, json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def stall(self, name: str) -> None:
        """Begin a body and send no more of it."""
        method, _ = self._calls[name]
        address = urlsplit(self.gateway.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"{method} {self.path(name)} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        head += f"authorization: Bearer {self._key(name)}\r\n"
        writer.write(f"{head}content-type: application/json\r\n\r\n{{".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


def asking(model: str) -> dict[str, Any]:
    """A body that every call takes which upstream serves."""
    return {"model": model, "input": "x", "messages": [{"role": "user", "content": "x"}]}


@asynccontextmanager
async def calling(
    url: str, server: Mapping[str, Any] | None = None, wrong_keys: int = 100_000, **relay: float
) -> AsyncIterator[Caller]:
    """Someone who calls a gateway before an upstream that has all endpoints."""
    async with FakeUpstream() as upstream:
        upstream.respond = _faulty
        has_all = ("compact", "input_tokens")
        settings = upstream_settings(upstream.url, "sk-one", name="all", models=("demo", "x-*"), endpoints=has_all)
        told = {"admin_key": SecretStr(MASTER_KEY), **(server or {})}
        access = {"failed_keys_per_minute": wrong_keys}
        async with (
            running_gateway(url, [settings], server=told, relay=relay, access=access) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as http,
        ):
            yield Caller(gateway, http)


@pytest.fixture
async def caller(sqlite_url: str) -> AsyncIterator[Caller]:
    async with calling(sqlite_url, {"max_body_bytes": _MOST_BYTES}) as caller:
        yield caller


def _faulty(request: Recorded) -> Reply | None:
    """An upstream that does what the model says."""
    if request.method != "POST":
        return None
    model = str(request.json["model"])
    faults = {"x-late": Reply.stall(), "x-gone": Reply.hang_up(), "x-refused": Reply.error(418, "teapot")}
    return faults.get(model)


async def test_each_is_given(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    await refuse_callers(caller)
    await refuse_bodies(caller)
    await refuse_what_is_asked(caller)
    await fail_upstream(caller)
    await conflict(caller, monkeypatch)
    await fail(caller, monkeypatch)
    seen = {(name, status) for name, status, _ in caller.described.seen}
    promised = {(name, status) for name, status, _ in caller.described.description.documented() if status >= "400"}
    # Those are other tests'.
    elsewhere = {(name, status) for name, status in promised if status in {"408", "429", "504"}}
    others = {*elsewhere, ("get_readyz", "503"), ("head_readyz", "503")}
    assert promised - others - seen == set()


async def test_who_tries_too_many_keys_is_told_so_by_every_call(sqlite_url: str) -> None:
    async with calling(sqlite_url, wrong_keys=1) as caller:
        await caller.call("list_models", 401, key="wrong")
        for name in caller.promised("429"):
            await caller.call(name, 429, key=f"wrong-{name}")
        assert caller.seen("429") == {*caller.promised("429")}


async def test_a_body_that_stays_away_is_refused_by_every_call_that_has_one(sqlite_url: str) -> None:
    async with calling(sqlite_url, {"body_timeout_seconds": 0.1}) as caller:
        async with asyncio.TaskGroup() as group:
            for name in caller.promised("408"):
                group.create_task(caller.stall(name))
        assert caller.seen("408") == {*caller.promised("408")}


async def test_every_call_that_upstream_serves_says_so_where_that_is_late(sqlite_url: str) -> None:
    async with calling(sqlite_url, first_byte_timeout_seconds=0.1) as caller:
        for name in caller.promised("504"):
            await caller.call(name, 504, body=asking("x-late"))
        assert caller.seen("504") == {*caller.promised("504")}


async def refuse_callers(caller: Caller) -> None:
    project = await caller.made("/admin/v1/projects", {"name": "narrow"})
    policy = {"scopes": ["admin:read"]}
    looks = await caller.made("/admin/v1/keys", {"project_id": project["id"], "name": "looks", "policy": policy})
    for name in caller.promised("401"):
        await caller.call(name, 401, key=None)
    for name in caller.promised("403"):
        await caller.call(name, 403, key=caller.gateway.key if caller.administers(name) else looks["key"])
    for name in caller.promised("431"):
        await caller.call(name, 431, headers={f"x-{number}": "x" for number in range(129)})


async def refuse_bodies(caller: Caller) -> None:
    kind = {"content-type": "application/json"}
    for name in caller.promised("415"):
        await caller.call(name, 415, content=b"x", headers={"content-type": "text/plain"})
        await caller.call(name, 413, content=b" " * (_MOST_BYTES + 1), headers=kind)
        await caller.call(name, 400, content=b"{", headers=kind)


async def refuse_what_is_asked(caller: Caller) -> None:
    bodies = {*caller.promised("415")}
    project = await caller.made("/admin/v1/projects", {"name": "bound", "policy": {"models": ["none"]}})
    bound = await caller.made("/admin/v1/keys", {"project_id": project["id"], "name": "bound"})
    for name in caller.promised("404"):
        # What is relayed as it came names nothing but a model.
        await caller.call(
            name, 404, key=bound["key"] if name in {"create_chat_completion", "create_embeddings"} else ""
        )
    for name in {*caller.promised("400")} - bodies - {"cancel_response", "delete_response"}:
        query = _BAD_QUERIES.get(name, "nonsense=1")
        await caller.call(name, 400, query=query, ids={"conversation_id": "no_conversation"})
    made = await caller.made("/v1/responses", {"model": "demo", "input": "x"})
    await caller.call("cancel_response", 400, ids={"response_id": made["id"]})
    run = await caller.made("/v1/responses", {"model": "demo", "input": "[words:100] [slow:5000]", "background": True})
    await caller.call("delete_response", 400, ids={"response_id": run["id"]})
    await caller.call("cancel_response", 200, ids={"response_id": run["id"]})


async def fail_upstream(caller: Caller) -> None:
    for name in caller.promised("504"):
        await caller.call(name, 418, body=asking("x-refused"))
        await caller.call(name, 502, body=asking("x-gone"))


async def conflict(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = await caller.made("/v1/conversations", {})
    project = await caller.made("/admin/v1/projects", {"name": "conflict"})
    key = await caller.made("/admin/v1/keys", {"project_id": project["id"], "name": "conflict"})
    await caller.made("/admin/v1/upstreams", {"name": "stored", "base_url": "https://8.8.8.8/v1", "models": ["none"]})
    (account,) = caller.gateway.app.state.services.upstreams._pool.accounts()[:1]
    ids = {"project_id": project["id"], "key_id": key["id"], "name": "stored", "account": account.name}
    ids |= {"conversation_id": conversation["id"]}
    keyed = {
        "create_response": {"model": "demo", "input": "x"},
        "create_conversation": {"metadata": {}},
        "create_items": _BODIES["create_items"],
    }
    for name, body in keyed.items():
        await caller.call(name, 200, body=body, ids=ids, headers={"idempotency-key": name})
        other = {**body, "model": "x"} if "model" in body else {"items": [{"role": "user", "content": "y"}]}
        await caller.call(name, 409, body=other, ids=ids, headers={"idempotency-key": name})

    async def outrun(*_: object) -> None:
        raise ConflictError("Your own key was changed meanwhile. Try again.")

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "submit", outrun)
        for name in {*caller.promised("409")} - keyed.keys():
            body = {"project_id": project["id"], "name": "new"} if name == "create_key" else ...
            await caller.call(name, 409, body=body, ids=ids)


async def fail(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    readiness = caller.gateway.app.state.services.readiness
    readiness.waits("the test")
    for name in caller.promised("503"):
        await caller.call(name, 503)
    readiness.serves()

    def broken(*_: object) -> str:
        raise RuntimeError("broken")

    # Traces are slow to show.
    with capture_logs(), monkeypatch.context() as patch:
        patch.setattr(Addresses, "of", broken)
        for name in caller.promised("500"):
            await caller.call(name, 500)
