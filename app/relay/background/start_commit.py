"""Commit that a run is in progress before upstream is asked, and know that the commit was made."""

import asyncio

from app.errors import StorageError
from app.state.runs import Run
from app.storage.runs.store import RunStore
from app.wire.responses import response_object

# For how long the commit is tried, and the pause between two attempts.
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 0.5


async def start(runs: RunStore, run: Run) -> bool:
    """Commit that the run is in progress; False when another process owns it. Raises StorageError.

    The commit is repeated until its outcome is known: of a run that is left while its row may say so, the next owner
    could not tell that upstream was never asked, and would end it as failed.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_SECONDS
    body = response_object.ended(run.body, "in_progress", [])
    while True:
        try:
            return await runs.start(run, body)
        except StorageError:
            if loop.time() > until:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
