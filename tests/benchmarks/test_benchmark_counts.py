"""The benchmark's parts agree: the load counts what the upstream was asked for, and the report's ratios hold."""

from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from benchmarks.comparison import Row
from benchmarks.load import Outcome, connected, drive, percentile
from benchmarks.loads import LOADS, PEER_LOADS, Load, asked, streamed
from benchmarks.report import comparison, ratio, table
from benchmarks.scenarios import PEER_SCENARIOS, SCENARIOS
from benchmarks.stage import DIRECT, HAPROXY, SQLITE
from benchmarks.upstream import serve

ROW = Row(DIRECT, 10, None, 1000, 1, 2, 1, 0, 0, [], 20, 20, 20, 0.5, 0.5)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await serve()
    async with server:
        yield server.sockets[0].getsockname()[1]


def request_for(body: dict[str, object], path: str = "/v1/responses") -> bytes:
    content = orjson.dumps(body)
    return f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


async def test_every_request_gets_one_whole_answer(port: int) -> None:
    outcome = await drive(port, [request_for(asked())], connections=3, each=4)
    assert (len(outcome.latencies), len(outcome.first_bytes), outcome.failures) == (12, 12, [])


async def test_requests_with_a_rate_are_all_sent_too(port: int) -> None:
    outcome = await drive(port, [request_for(asked())], connections=3, each=4, rate=2000)
    assert (len(outcome.latencies), outcome.failures) == (12, [])


@pytest.mark.parametrize("pause_ms", [None, 1])
async def test_a_stream_has_the_events_that_were_asked_for_and_one_end(port: int, pause_ms: int | None) -> None:
    outcome = await drive(port, [request_for(streamed(20, pause_ms))], connections=3, each=2)
    assert (outcome.events, outcome.terminal_events, outcome.failures) == (6 * 20, 6, [])
    # What is not paced carries no time; of 20 events 12 are deltas.
    assert len(outcome.delays) == (6 * 12 if pause_ms else 0)
    assert all(delay >= 0 for delay in outcome.delays)


async def test_an_answer_tells_how_much_the_upstream_was_sent_and_ids_are_fresh(port: int) -> None:
    content = asked("many words " * 50_000)
    async with connected(port, Outcome()) as connection:
        answers = [orjson.loads(await connection.ask(request_for(content))) for _ in range(2)]
    assert int(answers[0]["metadata"]["received"]) == len(orjson.dumps(content))
    assert answers[0]["id"] != answers[1]["id"]
    assert answers[0]["output"][0]["id"] != answers[1]["output"][0]["id"]


async def test_a_gateway_that_translates_gets_chat_completions(port: int) -> None:
    outcome = Outcome()
    async with connected(port, outcome) as connection:
        whole = orjson.loads(await connection.ask(request_for(asked(), "/v1/chat/completions")))
        assert await connection.ask(request_for(streamed(20), "/v1/chat/completions")) == b""
    assert whole["object"] == "chat.completion"
    # Twelve deltas, the reason why it ends, the usage; `[DONE]` is no event.
    assert outcome.events == 14


async def test_a_connection_that_is_cut_counts_as_failed() -> None:
    server = await serve()
    outcome = Outcome()
    async with server, connected(server.sockets[0].getsockname()[1], outcome) as connection:
        await connection.ask(request_for(asked()))
        connection.close()
        assert await connection.ask(request_for(asked())) == b""
        assert await connection.ask(request_for(asked())) == b""
    assert outcome.failures == ["cut off", "no connection"]


def test_a_slow_target_gets_its_share_and_a_paced_load_is_no_longer_for_a_fast_one() -> None:
    load = Load("one", (DIRECT,), asked(), 1, 100)
    assert [load.each_of(share) for share in (4, 1, 0.1, 0.001)] == [400, 100, 10, 1]
    assert replace(load, paced=True).each_of(4) == 100
    assert replace(load, rate=10).each_of(4) == 100


def test_ratios_are_to_the_same_run_and_what_is_added_is_added_to_the_direct_way() -> None:
    rows = [
        ROW,
        replace(ROW, target=HAPROXY, cpu=50, p50=1.5),
        replace(ROW, target=SQLITE, cpu=400, p50=3.5, failures=["cut off"] * 2, load_share=0.95),
    ]
    lines = comparison(LOADS[0], rows).splitlines()
    head, *cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ours = dict(zip(head[:9], cells[3][:9], strict=True))
    assert (ours["CPU µs"], ours["added p50 ms"]) == ("400", "2.50")
    assert cells[3][head.index("times HAProxy")] == "8.0"
    assert cells[3][head.index("added p50 ms") + 1] == "5.0"
    assert cells[2][head.index("times ours")] == "0.12"
    assert cells[3][-1] == "2 FAILED: cut off; load generator at 95%"


def test_a_column_that_says_nothing_is_left_out() -> None:
    assert table("one", ("a", "b", "c"), [["1", "-", "2"], ["3", "-", "-"]]) == (
        "### one\n\n| a | c |\n| --- | --- |\n| 1 | 2 |\n| 3 | - |\n"
    )
    assert (ratio(1, 0), ratio(0, 1), ratio(1, 8), ratio(30, 8), ratio(300, 8)) == ("-", "-", "0.12", "3.8", "38")


def test_percentiles_are_values_that_were_seen() -> None:
    assert (percentile([], 50), percentile([3, 1, 2], 50), percentile([3, 1, 2], 100)) == (0, 2, 3)


def test_every_scenario_has_a_name_of_its_own_and_every_load_a_direct_way() -> None:
    for scenarios in (SCENARIOS, PEER_SCENARIOS):
        names = [scenario.name for scenario in scenarios]
        assert len(set(names)) == len(names)
    assert all(DIRECT in load.targets for load in (*LOADS, *PEER_LOADS))
