"""How long a write waits: for those that come along, and for the database."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

from app.errors import StorageError
from app.storage.engine.database import Database
from app.storage.writer.writer import Writer
from tests.storage.conftest import Count


async def test_a_group_waits_for_what_the_next_turns_of_the_loop_bring_but_not_forever(writer: Writer) -> None:
    async def submit(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await writer.submit(Count())

    assert await asyncio.gather(*map(submit, range(5))) == [5] * 5
    sizes = await asyncio.gather(*map(submit, range(100)))
    assert 1 < sizes[0] < 20


async def test_each_write_is_late_by_its_own_time(database: Database) -> None:
    writer = Writer(database, 0.3)
    release = threading.Event()
    database.write(lambda _: release.wait(20))

    async def late_after(pause: float) -> float:
        await asyncio.sleep(pause)
        began = asyncio.get_running_loop().time()
        with pytest.raises(StorageError, match="commit in time"):
            await writer.submit(Count())
        return asyncio.get_running_loop().time() - began

    unbounded = writer.hand_in(Count())
    waited = await asyncio.gather(*map(late_after, (0, 0.1, 0.2)))
    assert all(0.29 < seconds < 10 for seconds in waited)
    assert not unbounded.done()
    release.set()
    assert await unbounded >= 1
    await writer.aclose()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_writes_whose_time_is_over_are_late_by_any_loop(
    sqlite_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def told() -> list[object]:
        database = Database(sqlite_url, pool_size=1, commit_timeout=20.0)
        writer = Writer(database, commit_timeout=0.0)
        said = await asyncio.gather(*[writer.submit(Count()) for _ in range(3)], return_exceptions=True)
        assert await writer.hand_in(Count()) == 1
        await writer.aclose()
        await database.aclose()
        return list(said)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        said = runner.run(told())
    assert [type(each) for each in said] == [StorageError] * 3
