"""The commit in which a run ends, while its database and its conversation may be somebody else's."""

from dataclasses import replace
from typing import Any

import pytest

from app.errors import StorageError
from app.relay.background.end_commit import RunCommit
from app.relay.stream.discarded_log import DiscardedLog
from app.runtime.compute_thread import ComputeThread
from app.state.records import StoredResponse
from app.state.runs import Run, RunRequest
from app.storage.responses.store import SaveResponse

RUN = Run(7, 1, RunRequest("resp_ours", "proj_a", "key_1", True, False, {}, b""), "in_progress", b"{}", False, 0)
STORED = StoredResponse("resp_ours", "proj_a", "key_1", None, "failed", "demo", "", 0, 9, b"{}", None, ())


class Runs:
    """A store of runs that takes no turn of the conversation: another call has it by now."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Any]] = []

    async def end(self, run: Run, status: str, body: bytes, *, keep_seconds: int, turn: Any) -> bool:
        if not isinstance(turn, SaveResponse):
            raise StorageError("Another call has taken over this conversation meanwhile.", code="conversation_lost")
        self.ended.append((status, turn))
        return True


class Held:
    """A conversation that was held."""

    async def saving(self, response: StoredResponse) -> str:
        return "a turn of the conversation"


@pytest.fixture
def store() -> Runs:
    return Runs()


@pytest.fixture
def commit(store: Runs) -> RunCommit:
    runs: Any = store
    memory: Any = None
    held: Any = Held()
    commit = RunCommit(
        runs, memory, RUN, DiscardedLog(), keep_seconds=60, wrote=lambda: None, compute_thread=ComputeThread()
    )
    commit.conversation = held
    return commit


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_what_leaves_nothing_in_its_conversation_ends_without_it(
    store: Runs, commit: RunCommit, status: str
) -> None:
    await commit.save(replace(STORED, status=status))
    assert [told for told, _ in store.ended] == [status]
    assert (commit.is_over, commit.is_lost) == (True, False)


async def test_an_answer_that_belongs_into_a_conversation_is_not_kept_beside_it(store: Runs, commit: RunCommit) -> None:
    with pytest.raises(StorageError) as caught:
        await commit.save(replace(STORED, status="completed"))
    assert caught.value.code == "conversation_lost"
    assert (store.ended, commit.is_over) == ([], False)
    # It fails then, which needs no conversation.
    await commit.save(STORED)
    assert commit.is_over
