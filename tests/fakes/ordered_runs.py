"""Runs as they are ordered, changed behind the store's back, and claimed."""

from typing import Any

from sqlalchemy import update

from app.state.runs import Page, Run, RunRequest
from app.storage.engine.database import Database
from app.storage.runs.store import RunStore
from app.storage.tables import runs as table

LEASE = 60


DAY = 86_400


def order(
    name: str = "one",
    *,
    is_streamed: bool = True,
    project_id: str = "proj_a",
    model: str | None = "demo",
    conversation_id: str | None = None,
) -> RunRequest:
    headers = {"openai-beta": "x=1"}
    request = b'{"model":"demo","input":"Hi"}'
    return RunRequest(
        f"resp_{name}",
        project_id,
        "key_1",
        True,
        is_streamed,
        headers,
        request,
        model=model,
        conversation_id=conversation_id,
    )


async def create(runs: RunStore, name: str = "one", owner: str | None = "me", **options: Any) -> Run:
    run = await runs.create(
        order(name, **options),
        b'{"status":"queued"}',
        Page(0, 1, b"a\n\nb\n\n"),
        owner=owner,
        lease_seconds=LEASE,
        most=9,
    )
    assert run is not None
    return run


async def change(database: Database, **values: Any) -> None:
    """Change every run's row behind the store's back."""

    def work(session: Any) -> None:
        session.write(lambda connection: connection.execute(update(table).values(**values)))

    await database.write(work)


async def claim(runs: RunStore, owner: str = "other", most: int = 9) -> list[Run]:
    """What is to be ended, and what can begin, one run of each project after the other."""
    ends = [sighting.key for sighting in await runs.watch(owner) if not sighting.is_own]
    claimed = list(await runs.claim(owner, LEASE, ends))
    while most > 0 and (waiting := await runs.waiting((), DAY)):
        begun = await runs.claim(owner, LEASE, [run.key for run in waiting][:most])
        claimed += begun
        most -= len(begun)
    return claimed
