"""Have a run's row say that upstream is asked, and know that it does before anybody asks."""

import asyncio

from app.errors import StorageError
from app.state.runs import Run
from app.storage.run_store import RunStore
from app.wire import response

# For how long it is tried, and how long after the last attempt.
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 0.5


async def start(runs: RunStore, run: Run) -> bool:
    """Commit that the run is in progress; False when it is somebody else's. Raises StorageError.

    It is said again until it is known: of a run that is left while its row may say so, the next owner could not tell
    that upstream was never asked, and would end it as failed.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_SECONDS
    body = response.ended(run.body, "in_progress", [])
    while True:
        try:
            return await runs.start(run, body)
        except StorageError:
            if loop.time() > until:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
