"""Reasoning survives from turn to turn though no client speaks of it; a model that refuses costs a client nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import frame, item, response
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

ASKED = ["reasoning.encrypted_content"]
REFUSAL = Reply.json(
    400,
    {
        "error": {
            "message": "Encrypted content is not supported with this model.",
            "type": "invalid_request_error",
            "param": "include",
            "code": None,
        }
    },
)

Turn = Callable[[str, str | None], Awaitable[dict[str, Any]]]
"""Says this, as the answer to the response of that id; the response object."""


class Thinker:
    """A model that reasons, and shows it in a form that can be replayed to whoever asks for that."""

    def __init__(self, upstream: FakeUpstream, *, refuses: bool = False) -> None:
        self._upstream = upstream
        self._refuses = refuses
        upstream.respond = self._respond

    @property
    def thoughts(self) -> list[list[str]]:
        """The encrypted reasoning that each call has brought along."""
        inputs: list[Any] = [request.json["input"] for request in self._upstream.requests]
        return [
            [each["encrypted_content"] for each in given if each.get("type") == "reasoning"]
            for given in inputs
            if isinstance(given, list)
        ]

    @property
    def includes(self) -> list[object]:
        return [request.json.get("include") for request in self._upstream.requests]

    def _respond(self, request: Recorded) -> Reply:
        number = len(self._upstream.requests)
        asked = request.json.get("include") == ASKED
        if asked and self._refuses:
            return REFUSAL
        thought: dict[str, Any] = {"id": f"rs_{number}", "type": "reasoning", "summary": []}
        if asked:
            thought["encrypted_content"] = f"sealed {number}"
        output = [thought, {**item(f"Answer {number}."), "id": f"msg_{number}"}]
        whole = response(f"resp_{number}", "completed", output)
        if not request.json.get("stream"):
            return Reply.json(200, whole)
        frames = [frame("response.created", 0, response=response(f"resp_{number}", "in_progress"))]
        frames += [
            frame("response.output_item.done", 1 + index, output_index=index, item=each)
            for index, each in enumerate(output)
        ]
        return Reply.sse([*frames, frame("response.completed", 3, response=whole)])


def body(text: str, previous: str | None, **more: Any) -> dict[str, Any]:
    chained = {} if previous is None else {"previous_response_id": previous}
    return {"model": "m", "input": [{"role": "user", "content": text}], **chained, **more}


async def speak(stack: AsyncExitStack, gateway: LiveGateway, surface: str) -> Turn:
    """How turns are made on this surface."""
    sdk: Any = await stack.enter_async_context(gateway.client())
    http = await stack.enter_async_context(BackgroundClient.to(gateway.url, gateway.key))
    if surface == "socket":
        socket = await stack.enter_async_context(SocketClient.to(gateway))
        return lambda text, previous: socket.respond(**body(text, previous))
    if surface == "lane":
        socket = await stack.enter_async_context(SocketClient.to(gateway))
        return lambda text, previous: socket.respond(**body(text, previous, store=False))
    conversation = (await sdk.conversations.create()).id if surface == "conversation" else None

    async def turn(text: str, previous: str | None) -> dict[str, Any]:
        if surface == "background":
            return await http.ended(await http.order(**body(text, previous)))
        if surface == "background stream":
            response_id = await http.order(**body(text, previous), stream=True)
            return await http.ended(response_id)
        if surface == "conversation":
            made = await sdk.responses.create(**body(text, None), conversation=conversation)
        elif surface == "stream":
            stream = await sdk.responses.create(**body(text, previous), stream=True)
            made = [event async for event in stream][-1].response
        else:
            made = await sdk.responses.create(**body(text, previous))
        read: dict[str, Any] = orjson.loads(made.to_json())
        return read

    return turn


SURFACES = ["JSON", "stream", "background", "background stream", "conversation", "socket", "lane"]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_thought_is_there_in_the_next_turn(
    surface: str, stack: AsyncExitStack, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    thinker = Thinker(upstream)
    turn = await speak(stack, sqlite_gateway, surface)
    first = await turn("One.", None)
    second = await turn("Two.", first["id"])
    await turn("Three.", second["id"])
    assert thinker.includes == [ASKED] * 3
    assert thinker.thoughts == [[], ["sealed 1"], ["sealed 1", "sealed 2"]]


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_model_that_refuses_to_be_asked_answers_all_the_same(
    surface: str, stack: AsyncExitStack, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    thinker = Thinker(upstream, refuses=True)
    turn = await speak(stack, sqlite_gateway, surface)
    first = await turn("One.", None)
    assert first["status"] == "completed"
    assert (await turn("Two.", first["id"]))["status"] == "completed"
    # It was asked once, and never again.
    assert thinker.includes == [ASKED, None, None]


async def test_what_was_found_out_is_known_after_a_restart(sqlite_url: str, upstream: FakeUpstream) -> None:
    thinker = Thinker(upstream, refuses=True)
    upstreams = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with running_gateway(sqlite_url, upstreams) as first, first.client() as client:
        await client.responses.create(model="m", input=[{"role": "user", "content": "One."}])
        await _written(first)
    async with running_gateway(sqlite_url, upstreams, keys_of=first) as second, second.client() as client:
        await client.responses.create(model="m", input=[{"role": "user", "content": "Two."}])
    assert thinker.includes == [ASKED, None, None]


@pytest.mark.parametrize("reasoning", [{"effort": None}, {"effort": None, "summary": None}, {}])
async def test_nothing_is_asked_of_a_turn_that_is_not_kept(
    reasoning: dict[str, Any], sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    thinker = Thinker(upstream)
    async with sqlite_gateway.client() as client:
        await client.responses.create(
            model="m", input=[{"role": "user", "content": "x"}], store=False, extra_body={"reasoning": reasoning}
        )
    assert thinker.includes == [None]


async def test_the_refusal_of_what_a_client_asked_for_is_the_clients(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    thinker = Thinker(upstream, refuses=True)
    async with BackgroundClient.to(sqlite_gateway.url, sqlite_gateway.key) as client:
        told = await client.create(**body("One.", None, include=ASKED, background=False))
    assert (told.status_code, told.json()["error"]["param"]) == (400, "include")
    assert thinker.includes == [ASKED]


async def _written(gateway: LiveGateway) -> None:
    """Until the database knows what the process found out."""
    pool_sync = gateway.app.state.services.reload._pool_sync
    async with asyncio.timeout(20):
        while not pool_sync._marks:
            await asyncio.sleep(0.02)
