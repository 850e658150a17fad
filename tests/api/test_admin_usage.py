"""The ledger as administrators read it: sums as JSON and CSV, and the calls themselves."""

import csv
import io

import pytest

from app.administration.views.resources import USAGE_COLUMNS
from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from app.storage.engine.database import Database
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from tests.fakes.administrator import MASTER_KEY, Administrator

pytestmark = pytest.mark.slow_on_postgresql

HOUR = 3600
DAY = 86_400
NOW = 1_800_000_000 - 1_800_000_000 % DAY
SPAN = f"since={NOW}&until={NOW + 2 * DAY}"


def entry(number: int, *, key: str = "key_a", model: str = "gpt-5", cost: int | None = 1_500_000_000) -> UsageEntry:
    return UsageEntry(
        at=NOW + number * HOUR,
        request_id=f"req_{number}",
        project_id="proj_a",
        api_key_id=key,
        endpoint="responses",
        model=model,
        is_stream=True,
        is_background=False,
        model_served=model,
        account="main/0123456789ab",
        attempts=1,
        response_id=f"resp_{number}",
        response_status="completed",
        usage=TokenUsage(100, 20, 120, 60, 5),
        cost_nano=cost,
    )


@pytest.fixture
async def ledger(admin: Administrator, database: Database, writer: Writer) -> UsageStore:
    store = UsageStore(database, writer)
    await store.record(
        [entry(0), entry(1), entry(25, key="key_b"), entry(26, key="key_b", model='=cmd|"x"!A1', cost=None)]
    )
    return store


async def test_sums_are_grouped_as_asked(admin: Administrator, ledger: UsageStore) -> None:
    (whole,) = (await admin.ask("GET", f"/usage?{SPAN}"))["data"]
    assert list(whole) == list(USAGE_COLUMNS)
    assert (whole["requests"], whole["input_tokens"], whole["cached_tokens"], whole["cost_usd"]) == (4, 400, 240, 4.5)
    assert (whole["unpriced_requests"], whole["api_key_id"], whole["begins"]) == (1, None, None)
    by_day = (await admin.ask("GET", f"/usage?{SPAN}&group_by=key,day"))["data"]
    assert [(each["begins"], each["api_key_id"], each["requests"]) for each in by_day] == [
        (NOW, "key_a", 2),
        (NOW + DAY, "key_b", 2),
    ]
    (one,) = (await admin.ask("GET", f"/usage?{SPAN}&key=key_b&model=gpt-5&group_by=model"))["data"]
    assert (one["model"], one["requests"], one["cost_usd"]) == ("gpt-5", 1, 1.5)
    assert (await admin.ask("GET", f"/usage?{SPAN}&project=proj_other&group_by=key"))["data"] == []


async def test_an_unknown_price_is_null_and_not_nothing(admin: Administrator, ledger: UsageStore) -> None:
    sums = (await admin.ask("GET", f"/usage?{SPAN}&group_by=model"))["data"]
    assert {each["model"][0]: each["cost_usd"] for each in sums} == {"=": None, "g": 4.5}


@pytest.mark.parametrize(("query", "accept"), [("&format=csv", "*/*"), ("", "text/csv")])
async def test_sums_are_a_sheet_that_runs_nothing(
    admin: Administrator, ledger: UsageStore, query: str, accept: str
) -> None:
    answer = await admin.answer("GET", f"/usage?{SPAN}&group_by=model{query}", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert answer.text.endswith("\r\n")
    header, *rows = list(csv.reader(io.StringIO(answer.text)))
    assert tuple(header) == USAGE_COLUMNS
    models = {row[header.index("model")]: row for row in rows}
    assert models.keys() == {"gpt-5", '\'=cmd|"x"!A1'}
    assert models["gpt-5"][header.index("cost_usd")] == "4.5"
    assert models['\'=cmd|"x"!A1'][header.index("cost_usd")] == ""


async def test_entries_are_read_page_by_page_and_say_nothing_of_the_content(
    admin: Administrator, ledger: UsageStore
) -> None:
    first = await admin.ask("GET", f"/usage/entries?{SPAN}&limit=3")
    assert first["has_more"]
    rest = await admin.ask("GET", f"/usage/entries?{SPAN}&limit=3&after={first['last_id']}")
    assert not rest["has_more"]
    found = [*first["data"], *rest["data"]]
    assert [each["request_id"] for each in found] == ["req_26", "req_25", "req_1", "req_0"]
    assert found[-1] == {
        "id": found[-1]["id"],
        "object": "usage_entry",
        "at": NOW,
        "request_id": "req_0",
        "project_id": "proj_a",
        "api_key_id": "key_a",
        "endpoint": "responses",
        "model": "gpt-5",
        "model_served": "gpt-5",
        "account": "main/0123456789ab",
        "attempts": 1,
        "affinity": None,
        "status": 200,
        "error_code": None,
        "response_id": "resp_0",
        "response_status": "completed",
        "stream": True,
        "background": False,
        "input_tokens": 100,
        "cached_tokens": 60,
        "cache_write_tokens": 0,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "web_searches": 0,
        "file_searches": 0,
        "estimated": False,
        "service_tier": None,
        "cost_usd": 1.5,
        "first_byte_ms": None,
        "latency_ms": None,
    }
    assert len((await admin.ask("GET", f"/usage/entries?{SPAN}&key=key_b"))["data"]) == 2


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("since=yesterday", "since"),
        ("since=-1", "since"),
        (f"until={2**70}", "until"),
        ("group_by=user", "group_by[0]"),
        ("group_by=key,,day", "group_by[1]"),
        ("format=xml", "format"),
        ("role=admin", "role"),
    ],
)
async def test_a_question_outside_its_form_is_refused(admin: Administrator, query: str, param: str) -> None:
    assert await admin.refused("GET", f"/usage?{query}", key=MASTER_KEY) == param
