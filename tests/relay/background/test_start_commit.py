"""That a run's row says whether upstream may have been asked, whatever the database does meanwhile."""

from typing import cast

import pytest

from app.errors import StorageError
from app.relay.background import start_commit
from app.state.runs import Run, RunRequest
from app.storage.runs.store import RunStore

_RUN = Run(1, 1, RunRequest("resp_1", "proj_a", "key_1", True, False, {}, b"{}"), "queued", b"{}", False, 0)


class _Runs:
    """A store whose database is away for some attempts."""

    def __init__(self, *outcomes: bool | StorageError) -> None:
        self._outcomes = list(outcomes)

    async def start(self, run: Run, body: bytes) -> bool:
        assert run is _RUN
        assert b"in_progress" in body
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_commit, "_RETRY_SECONDS", 0)


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_start_whose_outcome_is_unknown_is_said_again_until_it_is_known(is_ours: bool) -> None:
    away = StorageError("late")
    assert await start_commit.start(cast("RunStore", _Runs(away, away, is_ours)), _RUN) is is_ours


async def test_a_run_is_left_where_the_database_is_away_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_commit, "_PATIENCE_SECONDS", -1)
    with pytest.raises(StorageError):
        await start_commit.start(cast("RunStore", _Runs(StorageError("late"))), _RUN)
