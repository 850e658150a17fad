import time
from typing import Any

import orjson
import pytest

from app.errors import StorageError, UpstreamError
from app.observability import logging
from app.relay.call.exchange import Exchange
from app.relay.call.settle import Settler
from app.runtime.compute_thread import ComputeThread
from app.state.records import Chain, StoredResponse, TokenUsage, Turn
from app.storage.responses.store import DUPLICATE_RESPONSE
from tests.builders import (
    ACCOUNT,
    make_caller,
    make_chain,
    make_exchange,
    make_item,
    make_request,
    make_turn,
    says,
    thinks,
    user,
)

_DAY = 86_400


class _Store:
    """Keeps in memory what it is given, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.saved: list[StoredResponse] = []
        self._error = error

    async def save(self, response: StoredResponse) -> None:
        if self._error is not None:
            raise self._error
        self.saved.append(response)


def exchange(
    memory: Any,
    *,
    chain: Chain | None = None,
    given: tuple[dict[str, Any], ...] = (),
    days: int | None = None,
    **fields: Any,
) -> Exchange:
    items = tuple(make_item(value) for value in given)
    request, caller = make_request(**fields), make_caller(retention_days=days)
    return make_exchange(request, caller, chain=chain, items=items, memory=memory if request.store else None)


def body(**members: Any) -> bytes:
    return orjson.dumps({"id": "resp_1", "status": "completed", "model": "demo-1", "store": False, **members})


async def test_a_turn_is_kept_as_the_client_asked_for_it() -> None:
    store = _Store()
    chain = make_chain(make_turn([user("0")], []))
    asked = exchange(store, chain=chain, given=(user("1"), thinks("rs_in")), previous_response_id="resp_0")
    raw = body(output=[thinks(), says("2")], usage={"input_tokens": 3})
    answered = await Settler(30, ComputeThread()).settle(asked, ACCOUNT, raw)

    (kept,) = store.saved
    assert kept.body == answered
    read = orjson.loads(kept.body)
    assert (read["store"], read["previous_response_id"]) == (True, "resp_0")
    assert (kept.id, kept.status, kept.model, kept.account) == ("resp_1", "completed", "demo-1", ACCOUNT)
    assert (kept.project_id, kept.api_key_id, kept.parent_key) == ("proj_a", "key_1", chain.key)
    assert [(item.type, item.is_output, item.account) for item in kept.items] == [
        ("message", False, None),
        ("reasoning", False, ACCOUNT),
        ("reasoning", True, ACCOUNT),
        ("message", True, None),
    ]


async def test_a_first_turn_has_no_parent_and_the_requests_model_where_upstream_names_none() -> None:
    store = _Store()
    await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, body(model=None))
    assert (store.saved[0].parent_key, store.saved[0].model) == (None, "demo")


@pytest.mark.parametrize(("project_days", "days"), [(None, 30), (7, 7), (0, 0)])
async def test_a_turn_expires_as_its_project_says_or_as_the_setting_does(project_days: int | None, days: int) -> None:
    store = _Store()
    before = int(time.time())
    await Settler(30, ComputeThread()).settle(exchange(store, days=project_days), ACCOUNT, body())
    kept = store.saved[0]
    assert before <= kept.created_at <= time.time()
    assert kept.expires_at == kept.created_at + days * _DAY


async def test_what_is_not_to_be_stored_is_not() -> None:
    store = _Store(StorageError("It was asked to."))
    answered = await Settler(30, ComputeThread()).settle(exchange(store, store=False), ACCOUNT, body(store=True))
    assert answered is not None
    assert orjson.loads(answered)["store"] is False
    assert store.saved == []


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"<html>", b'{"id":""}'])
async def test_what_is_no_response_object_can_be_passed_on_but_not_kept(raw: bytes | None) -> None:
    store = _Store()
    assert await Settler(30, ComputeThread()).settle(exchange(store, store=False), ACCOUNT, raw) is None
    with pytest.raises(UpstreamError) as caught:
        await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, raw)
    assert caught.value.code == "upstream_invalid_answer"
    assert store.saved == []


@pytest.mark.parametrize("said", ["queued", "in_progress"])
@pytest.mark.parametrize("status", ["completed", "failed", "incomplete"])
@pytest.mark.parametrize("background_id", [None, "resp_ours"])
async def test_a_response_that_says_it_goes_on_has_ended_as_its_terminal_event_says(
    said: str, status: str, background_id: str | None
) -> None:
    store = _Store()
    turn = exchange(store, background=background_id is not None)
    turn.background_id = background_id
    answered = await Settler(30, ComputeThread()).settle(turn, ACCOUNT, body(status=said, temperature=1.50), status)
    (kept,) = store.saved
    assert kept.status == orjson.loads(kept.body)["status"] == status
    assert answered == kept.body
    assert b'"temperature":1.5' in kept.body


async def test_an_answer_that_says_it_goes_on_ends_too_unless_upstream_runs_it_itself() -> None:
    store = _Store()
    foreground, theirs, ours = exchange(store), exchange(store, background=True), exchange(store, background=True)
    ours.background_id = "resp_ours"
    for turn in (foreground, theirs, ours):
        await Settler(30, ComputeThread()).settle(turn, ACCOUNT, body(status="in_progress", output=[says("Hm.")]))
    assert [kept.status for kept in store.saved] == ["incomplete", "in_progress", "failed"]
    failed = orjson.loads(store.saved[2].body)
    assert (failed["id"], failed["status"], failed["output"]) == ("resp_ours", "failed", [says("Hm.")])
    assert "upstream_unfinished" in failed["error"]["message"]


@pytest.mark.parametrize(
    ("event", "said", "status"),
    [
        ("completed", "incomplete", "completed"),
        ("incomplete", "completed", "incomplete"),
        ("failed", "completed", "failed"),
        ("failed", "cancelled", "cancelled"),
        ("completed", "finished", "completed"),
        ("done", "incomplete", "incomplete"),
        ("done", "in_progress", "completed"),
        ("done", None, "completed"),
        (None, "finished", "completed"),
        (None, None, "completed"),
    ],
)
async def test_a_body_says_the_status_of_its_row_and_the_event_outranks_it(
    event: str | None, said: str | None, status: str
) -> None:
    store = _Store()
    await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, body(status=said), event)
    (kept,) = store.saved
    assert kept.status == orjson.loads(kept.body)["status"] == status


@pytest.mark.parametrize(
    ("members", "status"),
    [({"error": {"code": "x"}}, "failed"), ({"incomplete_details": {"reason": "x"}}, "incomplete")],
)
async def test_a_body_without_a_status_ended_as_its_other_members_say(members: dict[str, Any], status: str) -> None:
    store = _Store()
    await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, body(status=None, **members))
    assert store.saved[0].status == status


@pytest.mark.parametrize("output", [[], None])
@pytest.mark.parametrize("store_it", [True, False])
async def test_items_that_were_delivered_are_the_output_of_a_response_without_any(output: Any, store_it: bool) -> None:
    store = _Store()
    delivered = [orjson.dumps(says("2"))]
    settle = Settler(30, ComputeThread()).settle
    answered = await settle(exchange(store, store=store_it), ACCOUNT, body(output=output), "completed", delivered)
    assert orjson.loads(answered or b"")["output"] == [says("2")]
    if store_it:
        assert [item.type for item in store.saved[0].items] == ["message"]
    said = body(output=[says("3")])
    answered = await settle(exchange(store, store=store_it), ACCOUNT, said, "completed", delivered)
    assert orjson.loads(answered or b"")["output"] == [says("3")]


class _Taken(_Store):
    """Has a turn of the id already."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(StorageError("Taken.", code=DUPLICATE_RESPONSE))
        self._turn = turn

    async def read_chain(self, *_: object) -> Chain:
        return make_chain(self._turn)


async def test_a_response_that_a_cache_repeats_is_the_one_that_is_kept() -> None:
    raw = body(output=[says("2", "msg_other")])
    kept = _Taken(make_turn([user("1")], [says("2")]))
    assert await Settler(30, ComputeThread()).settle(exchange(kept, given=(user("1"),)), ACCOUNT, raw) is not None
    for other in (make_turn([user("0")], [says("2")]), make_turn([user("1")], [says("3")])):
        with pytest.raises(StorageError, match="Taken"):
            await Settler(30, ComputeThread()).settle(exchange(_Taken(other), given=(user("1"),)), ACCOUNT, raw)
    # After something else it is not the same, whatever it says.
    chain = make_chain(make_turn([user("0")], []))
    asked = exchange(kept, chain=chain, given=(user("1"),), previous_response_id="resp_0")
    with pytest.raises(StorageError, match="Taken"):
        await Settler(30, ComputeThread()).settle(asked, ACCOUNT, raw)


async def test_a_response_with_half_a_character_is_kept_without_it() -> None:
    store = _Store()
    raw = body(output=[says("half @")]).replace(b"@", b"\\ud83d")
    await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, raw)
    assert orjson.loads(store.saved[0].body)["output"] == [says("half \ufffd")]


async def test_who_polls_a_run_of_ours_finds_a_status_though_upstream_named_none() -> None:
    store = _Store()
    ours = exchange(store, background=True)
    ours.background_id = "resp_ours"
    await Settler(30, ComputeThread()).settle(ours, ACCOUNT, b'{"id":"resp_1","output":[]}')
    assert orjson.loads(store.saved[0].body)["status"] == "completed"


async def test_a_commit_that_fails_is_the_callers_to_tell() -> None:
    with pytest.raises(StorageError, match="Disk full"):
        await Settler(30, ComputeThread()).settle(exchange(_Store(StorageError("Disk full."))), ACCOUNT, body())


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, None),
        ("many", None),
        ([1], None),
        ({}, TokenUsage(0, 0, 0)),
        (
            {
                "input_tokens": 1,
                "input_tokens_details": {"cached_tokens": 2},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 5,
            },
            TokenUsage(1, 3, 5, cached_tokens=2, reasoning_tokens=4),
        ),
        ({"input_tokens": 1, "input_tokens_details": None, "output_tokens_details": [4]}, TokenUsage(1, 0, 0)),
        ({"input_tokens": "1", "output_tokens": 1.5, "total_tokens": True}, TokenUsage(0, 0, 0)),
        ({"input_tokens": -1, "output_tokens": 2**63, "total_tokens": 2**63 - 1}, TokenUsage(0, 0, 2**63 - 1)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, TokenUsage(0, 0, 3)),
    ],
)
async def test_usage_is_counted_as_far_as_upstream_reports_it(usage: Any, counts: TokenUsage | None) -> None:
    store = _Store()
    await Settler(30, ComputeThread()).settle(exchange(store), ACCOUNT, body(usage=usage))
    assert store.saved[0].usage == counts


async def test_the_requests_log_line_learns_how_it_ended() -> None:
    logging.begin_request("req_1")
    raw = body(status="incomplete", usage={"input_tokens": 3, "output_tokens": 4})
    await Settler(30, ComputeThread()).settle(exchange(_Store()), ACCOUNT, raw)
    assert logging._request.get() == {
        "request_id": "req_1",
        "response_id": "resp_1",
        "response_status": "incomplete",
        "stored": True,
        "input_tokens": 3,
        "output_tokens": 4,
    }
