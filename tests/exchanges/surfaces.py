"""The ways of one exchange through a gateway: each compared at upstream, at its client, and as it is kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2

from tests.exchanges.exchange import OF_ONE_ACCOUNT, USAGE, Exchange, Json
from tests.exchanges.upstream import TableUpstream, frames_of, made_for, response_of
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.openai_types import CONVERSATION_ITEM, ITEM, check, check_response
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import events

# A gateway may call an item anew, and has no use for how far it once was.
_UNTOLD = {"created_by", "id", "status"}
# Types that the SDK does not know, or knows in one place alone.
_UNTYPED = {"hologram", "agent_message", "configuration_update", "input_smell", "input_audio", "openrouter:fusion"}
_BESIDE = ("call_id", "request_id", "status")


class Surfaces:
    """One gateway, and the table's upstream behind it."""

    def __init__(self, gateway: LiveGateway, upstream: TableUpstream, http: httpx2.AsyncClient) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._http = http

    async def run(self, surface: str, row: Exchange) -> None:
        """Take the row this way. Raises AssertionError where anything is not as the row has it."""
        await getattr(self, f"_{surface}")(row, f"{surface}/{row.name}/1")

    async def _create(self, row: Exchange, model: str) -> None:
        made = await self._ask(row, model)
        if row.refusal is not None:
            _check_refused(row, made.status_code, made.json()["error"])
            return
        body = await self._check_kept(row, model, made)
        assert body == made.json()
        self._check_asked(row, model)
        await self._check_listed(row, model, f"responses/{body['id']}/input_items", row.input)

    async def _stream(self, row: Exchange, model: str) -> None:
        made = await self._ask(row, model, stream=True)
        if row.refusal is not None:
            _check_refused(row, made.status_code, made.json()["error"])
            return
        assert made.headers["content-type"].lower().startswith("text/event-stream")
        sent = b"".join(frames_of(row, model))
        if row.form.ends_with == "":
            told = _events(made.content)
            # Where upstream says itself what broke, nothing is to be added.
            ends = [event for event in told if event["type"] in {"response.failed", "error"}]
            assert ends == [told[-1]]
            if ends[0]["type"] == "response.failed":
                check_response(ends[0]["response"], is_rebuilt=True)
            made_id = response_of(row, model)["id"]
        elif row.form.swaps:
            assert _events(made.content)[-1]["type"] == f"response.{row.status}"
            made_id = response_of(row, model)["id"]
        else:
            assert made.content == sent
            made_id = response_of(row, model)["id"]
        self._check_body(row, model, await self._get(f"responses/{made_id}"))

    async def _chain(self, row: Exchange, model: str) -> None:
        made = await self._ask(row, model)
        body = await self._check_kept(row, model, made)
        await self._continue(row, model, previous_response_id=body["id"])
        after = f"responses/{response_of(row, _second(model))['id']}/input_items"
        await self._check_listed(row, model, after, [*row.input, *row.says, *row.then])

    async def _conversation(self, row: Exchange, model: str) -> None:
        made = await self._http.post(f"{self._gateway.base_url}/conversations", json={}, headers=self._headers)
        check(made.json())
        conversation = made.json()["id"]
        answer = await self._ask(row, model, conversation=conversation)
        body = await self._check_kept(row, model, answer)
        assert body["conversation"] == {"id": conversation}
        await self._check_listed(row, model, f"conversations/{conversation}/items", [*row.input, *row.says])
        await self._continue(row, model, conversation=conversation)

    async def _background(self, row: Exchange, model: str) -> None:
        made = await self._ask(row, model, background=True)
        check_response(made.json())
        client = BackgroundClient(self._gateway.base_url + "/responses", self._gateway.key, self._http)
        body = await client.ended(made.json()["id"])
        if row.refusal is not None:
            check_response(body)
            assert body["status"] == "failed"
            assert row.refusal.words in body["error"]["message"]
            return
        self._check_body(row, model, body)
        if row.then:
            await self._continue(row, model, previous_response_id=body["id"])

    async def _websocket(self, row: Exchange, model: str) -> None:
        async with SocketClient.to(self._gateway) as client:
            told = await client.turn_events(**{**made_for(model, row.asked), "model": model, "store": False})
            last = told[-1]
            if row.refusal is not None:
                assert last["type"] == "error"
                _check_refused(row, last["status"], last["error"])
                return
            if row.status == "failed" and last["type"] == "error":
                return
            assert last["type"] == (row.form.ends_with or f"response.{row.status}"), last
            if row.form.ends_with is None and not row.form.swaps and row.form.snapshot == "whole":
                assert told == events(
                    b"".join(frames_of(row, model)).replace(b"\r\n", b"\n").replace(b"data: [DONE]", b"")
                )
            if row.then:
                await client.turn(
                    model=_second(model),
                    input=made_for(model, row.then),
                    previous_response_id=last["response"]["id"],
                    store=False,
                )
                self._check_continued(row, model, same_account=True)

    async def _failover(self, row: Exchange, model: str) -> None:
        body = await self._check_kept(row, model, await self._ask(row, model))
        if not row.is_owned:
            await self._continue(row, model, previous_response_id=body["id"], same_account=False)
            return
        asked = {"model": _second(model), "input": made_for(model, row.then), "previous_response_id": body["id"]}
        refused = await self._post(asked)
        assert refused.status_code >= 400
        assert _second(model) not in self._upstream.asked

    async def _reference(self, row: Exchange, model: str) -> None:
        await self._name_again(row, model, lambda item: {"type": "item_reference", "id": item["id"]})

    async def _stub(self, row: Exchange, model: str) -> None:
        await self._name_again(row, model, _stub)

    async def _name_again(self, row: Exchange, model: str, named: Callable[[Json], Json]) -> None:
        await self._check_kept(row, model, await self._ask(row, model))
        said = made_for(model, [*row.input, *[named(item) for item in row.says], *row.then])
        made = await self._post({"model": _second(model), "input": said})
        assert made.status_code == 200, made.text
        self._check_continued(row, model, same_account=True)

    async def _ask(self, row: Exchange, model: str, **members: Any) -> httpx2.Response:
        return await self._post({**made_for(model, row.asked), "model": model, **members})

    async def _post(self, body: Json) -> httpx2.Response:
        return await self._http.post(f"{self._gateway.base_url}/responses", json=body, headers=self._headers)

    async def _get(self, path: str) -> Any:
        found = await self._http.get(f"{self._gateway.base_url}/{path}", headers=self._headers)
        assert found.status_code == 200, found.text
        return found.json()

    @property
    def _headers(self) -> Mapping[str, str]:
        return self._gateway.headers()

    async def _continue(self, row: Exchange, model: str, *, same_account: bool = True, **link: Any) -> None:
        made = await self._post({"model": _second(model), "input": made_for(model, row.then), **link})
        assert made.status_code == 200, made.text
        self._check_continued(row, model, same_account=same_account)

    def _check_continued(self, row: Exchange, model: str, *, same_account: bool) -> None:
        (asked,) = self._upstream.asked[_second(model)]
        told = [*row.history(same_account=same_account), *row.then]
        expected, sent = (_essence(items, row.may_drop) for items in (made_for(model, told), asked["input"]))
        assert sent == expected
        assert asked["store"] is False
        assert asked.keys().isdisjoint({"previous_response_id", "conversation", "background"})

    def _check_asked(self, row: Exchange, model: str) -> None:
        (asked,) = self._upstream.asked[model]
        expected = {**made_for(model, row.asked), "model": model, "store": False}
        added = set(asked.pop("include", [])) - set(expected.pop("include", []))
        assert asked == expected
        assert added <= {"reasoning.encrypted_content"}

    async def _check_kept(self, row: Exchange, model: str, made: httpx2.Response) -> dict[str, Any]:
        """The response as it is kept, which is what its client was told."""
        assert made.status_code == 200, made.text
        body: dict[str, Any] = await self._get(f"responses/{response_of(row, model)['id']}")
        self._check_body(row, model, body)
        return body

    def _check_body(self, row: Exchange, model: str, body: Json) -> None:
        assert body["output"] == made_for(model, row.says)
        assert body.get("status", "completed") == row.status
        assert body["object"] == "response"
        if row.form.ends_with is None and "usage" not in row.members:
            assert body["usage"] == USAGE
        for name, value in row.members.items():
            if value is not ... and name not in {"completed_at", "created_at", "usage"}:
                assert body[name] == value

    async def _check_listed(self, row: Exchange, model: str, path: str, told: Sequence[Json]) -> None:
        found = await self._get(f"{path}?order=asc&limit=100")
        if row.listed is not None:
            told = [*row.listed, *told[len(row.input) :]]
        expected = [item.get("type", "message") for item in told]
        listed = [item for item in found["data"] if item["type"] not in row.may_drop]
        assert [item["type"] for item in listed] == [kind for kind in expected if kind not in row.may_drop]
        for item in listed:
            parts = item["content"] if isinstance(item.get("content"), list) else []
            if _UNTYPED.isdisjoint({item["type"], *[part.get("type") for part in parts]}):
                check(item, CONVERSATION_ITEM if path.startswith("conv") else ITEM, beside=_BESIDE)


def _stub(item: Json) -> Json:
    """The item as clients name it that keep no more of it."""
    if item["type"] not in OF_ONE_ACCOUNT:
        return item
    return {"type": item["type"], "id": item["id"]} | ({"summary": []} if item["type"] == "reasoning" else {})


def _second(model: str) -> str:
    return model.removesuffix("1") + "2"


def _events(body: bytes) -> list[dict[str, Any]]:
    """The events up to the `[DONE]`, behind which nobody reads."""
    return events(body.partition(b"data: [DONE]")[0])


def _essence(items: Sequence[Json], may_drop: Sequence[str]) -> list[dict[str, Any]]:
    named = [{"type": "message", **item} for item in items]
    return [
        {name: value for name, value in item.items() if name not in _UNTOLD and value is not None}
        for item in named
        if item["type"] not in may_drop
    ]


def _check_refused(row: Exchange, status: int, error: Json) -> None:
    refusal = row.refusal
    assert refusal is not None
    assert status == refusal.status
    assert error.keys() >= {"message", "type", "param", "code"}
    assert refusal.words in error["message"]
    if refusal.code is not None:
        assert error["code"] == refusal.code
