"""Whatever form and label upstream answers in, each surface gets what it asked for, and the same turn is kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
import pytest

from app.ids import new_id
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import events, frame, item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_SURFACES = ("whole", "stream", "background", "background stream", "socket", "conversation")
_LABELS = ("", "text/plain; charset=utf-8", "application/octet-stream", "application/json", "text/event-stream")


@dataclass
class Client:
    """Asks for a response on any surface; what it is told and what is kept have to agree."""

    gateway: LiveGateway
    http: httpx2.AsyncClient

    async def told(self, surface: str, **body: Any) -> dict[str, Any]:
        """The response object as the surface tells it in the end."""
        match surface:
            case "whole":
                answer = await self.post(body)
                assert answer.headers["content-type"].startswith("application/json")
                return dict(answer.json())
            case "stream":
                answer = await self.post({**body, "stream": True})
                assert answer.headers["content-type"].startswith("text/event-stream")
                return dict(events(answer.content.removesuffix(b"data: [DONE]\n\n"))[-1]["response"])
            case "socket":
                async with SocketClient.to(self.gateway) as socket:
                    return dict((await socket.turn(**body))["response"])
            case "conversation":
                conversation = (await self.http.post(f"{self.gateway.base_url}/conversations", json={})).json()["id"]
                told = await self.told("whole", conversation=conversation, **body)
                listed = (await self.http.get(f"{self.gateway.base_url}/conversations/{conversation}/items")).json()
                assert len(listed["data"]) == 1 + len(told["output"])
                return told
            case _:
                async with BackgroundClient.to(self.gateway.url, self.gateway.key) as client:
                    response_id = await client.order(**body, stream=surface == "background stream")
                    ended = await client.ended(response_id)
                    if surface == "background stream":
                        heard = events((await client.heard(response_id)).removesuffix(b"data: [DONE]\n\n"))
                        assert heard[-1]["response"] == ended
                        done = [each["item"] for each in heard if each["type"] == "response.output_item.done"]
                        assert done == ended["output"]
                    return ended

    async def post(self, body: dict[str, Any]) -> httpx2.Response:
        answer = await self.http.post(f"{self.gateway.base_url}/responses", json={"model": "m", "input": "Hi.", **body})
        assert answer.status_code == 200, answer.text
        return answer

    async def kept(self, response_id: str) -> dict[str, Any]:
        return dict((await self.http.get(f"{self.gateway.base_url}/responses/{response_id}")).json())

    async def texts_after(self, upstream: FakeUpstream, response_id: str) -> list[str]:
        """What upstream is sent of the model's words when the turn is continued."""
        upstream.respond = lambda _: Reply.json(200, response(new_id("resp"), "completed", [item("On.")]))
        await self.post({"previous_response_id": response_id})
        sent = orjson.loads(upstream.requests[-1].body)["input"]
        return [part["text"] for each in sent if each.get("role") == "assistant" for part in each["content"]]


@pytest.fixture
async def client(gateway: LiveGateway) -> Any:
    async with httpx2.AsyncClient(headers=gateway.headers(), timeout=60) as http:
        yield Client(gateway, http)


@pytest.fixture
async def on_sqlite(sqlite_gateway: LiveGateway) -> Any:
    """The same on SQLite alone, where the kind of database adds nothing."""
    async with httpx2.AsyncClient(headers=sqlite_gateway.headers(), timeout=60) as http:
        yield Client(sqlite_gateway, http)


def labelled(body: bytes, label: str) -> Reply:
    return Reply.body(200, body, content_type=label)


@pytest.mark.parametrize("surface", _SURFACES)
@pytest.mark.parametrize("is_stream", [True, False], ids=["events", "a body"])
async def test_the_form_is_the_one_that_was_asked_for_under_any_label(
    client: Client, upstream: FakeUpstream, surface: str, is_stream: bool
) -> None:
    told: dict[str, Any] = {}
    for label in _LABELS:
        named = new_id("resp")
        whole = orjson.dumps(response(named, "completed", [item("Teal.")]))
        sent = b"".join(story(named, "Teal.")) if is_stream else whole
        upstream.respond = lambda _, sent=sent, label=label: labelled(sent, label)
        told = await client.told(surface)
        assert (told["status"], told["output"]) == ("completed", [item("Teal.")]), label
    kept = await client.kept(told["id"])
    assert kept["output"] == [item("Teal.")]
    if surface in ("whole", "conversation") or "background" in surface:
        assert kept == told
    assert await client.texts_after(upstream, told["id"]) == ["Teal."]


async def test_a_good_stream_under_a_wrong_label_keeps_its_bytes(on_sqlite: Client, upstream: FakeUpstream) -> None:
    sent = b"".join(story(new_id("resp")))
    upstream.enqueue(labelled(sent, "text/plain"))
    assert (await on_sqlite.post({"stream": True})).content == sent


def without_output(named: str, terminal: str, *, is_absent: bool) -> list[bytes]:
    """A stream whose items came one by one and are not in its last event."""
    last = response(named, "completed")
    if is_absent:
        del last["output"]
    return [*story(named, "Teal.")[:-1], frame(terminal, 5, response=last)]


@pytest.mark.parametrize("surface", _SURFACES)
@pytest.mark.parametrize("is_absent", [True, False], ids=["absent", "empty"])
async def test_items_that_came_one_by_one_are_kept_where_the_last_event_has_none(
    client: Client, upstream: FakeUpstream, surface: str, is_absent: bool
) -> None:
    named = new_id("resp")
    frames = without_output(named, "response.completed", is_absent=is_absent)
    upstream.respond = lambda _: Reply.sse(frames)
    told = await client.told(surface)
    assert (await client.kept(told["id"]))["output"] == [item("Teal.")]
    if surface not in ("stream", "socket"):
        assert told["output"] == [item("Teal.")]
    assert await client.texts_after(upstream, told["id"]) == ["Teal."]


def ends_oddly(named: str) -> dict[str, Sequence[bytes]]:
    """Streams that end in other words than `response.completed` with a whole response."""
    frames = story(named, "Teal.")
    return {
        "response.done": [frames[-1].replace(b"response.completed", b"response.done")],
        "a nameless response.done": [frames[-1].replace(b"response.completed", b"response.done").partition(b"\n")[2]],
        "a response.done of usage alone": [frame("response.done", 5, response={"usage": {"input_tokens": 1}})],
        "a completed without a response": [frame("response.completed", 5)],
        "a status of in_progress": [frame("response.completed", 5, response=response(named, "in_progress"))],
        "a status that there is not": [frame("response.completed", 5, response=response(named, "finished"))],
        "no status": [frame("response.completed", 5, response={"id": named, "model": "m"})],
        "two last words": [frames[-1], frames[-1].replace(b"response.completed", b"response.done")],
    }


@pytest.mark.parametrize("surface", ["whole", "stream", "background stream"])
@pytest.mark.parametrize("name", list(ends_oddly("resp")))
async def test_a_turn_ends_by_its_last_event_whatever_the_object_in_it_says(
    on_sqlite: Client, upstream: FakeUpstream, surface: str, name: str
) -> None:
    named = new_id("resp")
    frames = [*story(named, "Teal.")[:-1], *ends_oddly(named)[name]]

    def respond(_: Recorded) -> Reply:
        return Reply.sse(frames)

    upstream.respond = respond
    if surface == "stream":
        assert (await on_sqlite.post({"stream": True})).content == b"".join(frames)
        kept = await on_sqlite.kept(named)
    else:
        kept = await on_sqlite.kept((await on_sqlite.told(surface))["id"])
    assert (kept["status"], kept["output"]) == ("completed", [item("Teal.")])
    assert await on_sqlite.texts_after(upstream, kept["id"]) == ["Teal."]


@pytest.mark.parametrize("said", ["finished", "", None])
async def test_a_body_has_the_status_of_its_row(on_sqlite: Client, upstream: FakeUpstream, said: str | None) -> None:
    upstream.enqueue(Reply.json(200, {**response("resp_odd", "completed", [item("Teal.")]), "status": said}))
    told = await on_sqlite.told("whole")
    assert told["status"] == "completed"
    assert (await on_sqlite.kept("resp_odd"))["status"] == "completed"
    upstream.enqueue(
        Reply.json(200, {**response("resp_cut", "x", [item("T")]), "incomplete_details": {"reason": "content_filter"}})
    )
    assert (await on_sqlite.told("whole"))["status"] == "incomplete"


_CUT = item("half ").copy() | {"content": [{"type": "output_text", "text": "half @", "annotations": []}]}


@pytest.mark.parametrize("surface", _SURFACES)
@pytest.mark.parametrize("is_stream", [True, False], ids=["events", "a body"])
async def test_half_a_character_is_no_reason_to_throw_an_answer_away(
    on_sqlite: Client, upstream: FakeUpstream, surface: str, is_stream: bool
) -> None:
    named = new_id("resp")
    done = frame("response.output_item.done", 4, output_index=0, item=_CUT)
    last = frame("response.completed", 5, response=response(named, "completed", [_CUT]))
    whole = orjson.dumps(response(named, "completed", [_CUT]))
    sent = (b"".join([*story(named)[:-2], done, last]) if is_stream else whole).replace(b"half @", b"half \\ud83d")
    upstream.respond = lambda _: labelled(sent, "text/event-stream" if is_stream else "application/json")
    if surface == "stream" and is_stream:
        assert (await on_sqlite.post({"stream": True})).content == sent
    elif surface == "socket" and is_stream:
        async with SocketClient.to(on_sqlite.gateway) as socket:
            await socket.create()
            while b"response.completed" not in (text := await socket.text()):
                pass
            assert b"half \\ud83d" in text
    else:
        named = (await on_sqlite.told(surface))["id"]
    kept = await on_sqlite.kept(named)
    assert (kept["status"], kept["output"][0]["content"][0]["text"]) == ("completed", "half \ufffd")
    assert await on_sqlite.texts_after(upstream, named) == ["half \ufffd"]


async def test_what_a_client_had_heard_of_a_message_is_kept_when_it_leaves(
    on_sqlite: Client, upstream: FakeUpstream
) -> None:
    named = new_id("resp")
    begun = item("") | {"status": "in_progress", "content": []}
    frames = [
        frame("response.created", 0, response=response(named, "in_progress")),
        frame("response.output_item.added", 1, output_index=0, item=begun),
        *(
            frame("response.output_text.delta", 2 + n, output_index=0, delta=text)
            for n, text in enumerate(("Te", "al"))
        ),
    ]
    upstream.enqueue(Reply.sse([*frames, *[b": ping\n\n"] * 200], pause=0.02))
    asked = {"model": "m", "input": "Hi.", "stream": True}
    async with on_sqlite.http.stream("POST", f"{on_sqlite.gateway.base_url}/responses", json=asked) as answer:
        heard = b""
        async for chunk in answer.aiter_raw():
            heard += chunk
            if b'"al"' in heard:
                break
    async with BackgroundClient.to(on_sqlite.gateway.url, on_sqlite.gateway.key) as poller:
        async with asyncio.timeout(60):
            while (found := await poller.ask("GET", named)).status_code != 200:
                await asyncio.sleep(0.02)
    kept = found.json()
    assert (kept["status"], kept["output"][0]["status"]) == ("cancelled", "incomplete")
    assert kept["output"][0]["content"][0]["text"] == "Teal"


@pytest.mark.parametrize("surface", ["whole", "stream"])
async def test_an_answer_out_of_a_cache_is_the_response_that_is_kept(
    client: Client, upstream: FakeUpstream, surface: str
) -> None:
    frames = story("resp_cached", "Teal.")
    whole = response("resp_cached", "completed", [item("Teal.")])
    upstream.respond = lambda request: Reply.sse(frames) if b'"stream":true' in request.body else Reply.json(200, whole)
    assert (await client.told("whole"))["id"] == "resp_cached"
    assert (await client.told(surface))["id"] == "resp_cached"
    assert await client.texts_after(upstream, "resp_cached") == ["Teal."]
