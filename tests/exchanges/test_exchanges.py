"""Every item type, tool, ending, error shape and vendor's dialect, on every way through the gateway."""

import asyncio
import time
import traceback
from collections import Counter
from typing import Any

import httpx2
import pytest

from app.storage.usage.tables import usage
from tests.exchanges import dialects, inputs, outputs
from tests.exchanges.exchange import OF_ONE_ACCOUNT, SURFACES, Exchange
from tests.exchanges.surfaces import Surfaces
from tests.exchanges.upstream import TableUpstream
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

TABLE = {row.name: row for row in (*inputs.ROWS, *outputs.ROWS, *dialects.ROWS)}
_AT_ONCE = 8
_SECONDS = 60.0


def test_the_table_is_whole() -> None:
    names = Counter(row.name for row in (*inputs.ROWS, *outputs.ROWS, *dialects.ROWS))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(TABLE) >= 80


@pytest.mark.parametrize("surface", SURFACES)
async def test_an_exchange_is_what_was_said_on_every_way(surface: str, sqlite_url: str) -> None:
    await _run(surface, sqlite_url)


@pytest.mark.slow
@pytest.mark.parametrize("surface", SURFACES)
async def test_an_exchange_is_what_was_said_on_postgresql_too(surface: str, postgresql_url: str) -> None:
    await _run(surface, postgresql_url)


async def _run(surface: str, database_url: str) -> None:
    chosen = [row for row in TABLE.values() if surface in row.only and _can_go(row, surface)]
    answers = TableUpstream(TABLE)
    async with FakeUpstream() as upstream, httpx2.AsyncClient(timeout=_SECONDS) as http:
        upstream.respond = answers.respond
        upstreams = (
            [
                upstream_settings(upstream.url, "sk-first-account", name="first", models=("*/1",)),
                upstream_settings(upstream.url, "sk-second-account", name="second", models=("*/2",)),
            ]
            if surface == "failover"
            else [upstream_settings(upstream.url, "sk-upstream-one")]
        )
        async with running_gateway(database_url, upstreams) as gateway:
            ways = Surfaces(gateway, answers, http)
            turn = asyncio.Semaphore(_AT_ONCE)
            faults = dict(
                zip(chosen, await asyncio.gather(*[_fault(ways, surface, row, turn) for row in chosen]), strict=True)
            )
            faults = {row: fault for row, fault in faults.items() if fault}
            sound = [row for row in chosen if row not in faults]
            faults |= await _ledger_faults(gateway, surface, sound)
    _tell({row.name: fault for row, fault in faults.items()})


def _can_go(row: Exchange, surface: str) -> bool:
    if surface in {"reference", "stub"}:
        ids = [item["id"] for item in row.says if "id" in item]
        is_named = row.replayed is None and len(ids) == len({*ids}) == len(row.says)
        return is_named and (surface == "reference" or any(item["type"] in OF_ONE_ACCOUNT for item in row.says))
    return bool(row.then) or surface not in {"chain", "failover"}


async def _fault(ways: Surfaces, surface: str, row: Exchange, turn: asyncio.Semaphore) -> str:
    """What is wrong with this row; empty where nothing is."""
    async with turn:
        try:
            async with asyncio.timeout(_SECONDS):
                await ways.run(surface, row)
        except Exception:  # noqa: BLE001 - each fault is one of the table's
            return traceback.format_exc(limit=-2)
    return ""


async def _ledger_faults(gateway: LiveGateway, surface: str, chosen: list[Exchange]) -> dict[Exchange, str]:
    """The rows whose first call has not the one entry in the ledger that it should have."""
    wanted = {f"{surface}/{row.name}/1": row for row in chosen}
    deadline = time.monotonic() + _SECONDS
    entries: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        entries = await asyncio.to_thread(rows, gateway.settings.storage.url, usage)
        if wanted.keys() <= {entry["model"] for entry in entries}:
            break
        await asyncio.sleep(0.1)
    found = {model: [entry for entry in entries if entry["model"] == model] for model in wanted}
    return {
        row: f"the ledger has {found[model]}"
        for model, row in wanted.items()
        if [_entry(row, entry) for entry in found[model]] != [_expected(row)]
    }


def _entry(row: Exchange, entry: dict[str, Any]) -> tuple[Any, ...]:
    tokens = (entry["input_tokens"], entry["cached_tokens"], entry["output_tokens"], entry["reasoning_tokens"])
    if row.form.ends_with == "" or "usage" in row.members or row.refusal:
        tokens = (None,) * 4
    status = entry["response_status"] if row.refusal is None else None
    return (status, *tokens)


def _expected(row: Exchange) -> tuple[Any, ...]:
    if row.refusal is not None:
        return (None,) * 5
    has_usage = row.form.ends_with != "" and "usage" not in row.members
    return (row.status, *((11, 3, 5, 2) if has_usage else (None,) * 4))


def _tell(faults: dict[str, str]) -> None:
    """Fail with all that is wrong."""
    assert not faults, "\n".join([f"{len(faults)} rows:", *[f"--- {name}\n{fault}" for name, fault in faults.items()]])
