"""Define the records of a background run: its request, its progress, its event log, and who may take it over."""

from collections.abc import Mapping
from dataclasses import dataclass

IN_FLIGHT = frozenset({"queued", "in_progress"})
ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Ask for a response in the background. `id` is the response's, given before upstream is called.

    `headers` are the client's that are passed on to upstream, `body` is the client's. `is_beta`: the query
    named OpenAI's beta. `drawn` is what was reserved of the caller's limits, as the reservation writes it.
    `conversation_id` is the conversation to which the turn is appended.
    """

    id: str
    project_id: str
    api_key_id: str
    is_stored: bool
    is_streamed: bool
    headers: Mapping[str, str]
    body: bytes
    is_beta: bool = False
    drawn: bytes | None = None
    model: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Own an unfinished response, as one process does for as long as `epoch` is its row's.

    `body` is the response object so far. A `status` of in_progress says that upstream may have been asked before.
    `waited` are the seconds since the request.
    """

    key: int
    epoch: int
    request: RunRequest
    status: str
    body: bytes
    cancel_requested: bool
    waited: int

    @property
    def only_ends(self) -> bool:
        """Tell whether the run only has to be ended: upstream is not asked for it any more."""
        return self.cancel_requested or self.status == "in_progress"


@dataclass(frozen=True, slots=True)
class RunState:
    """Describe a run to any reader."""

    key: int
    status: str
    is_streamed: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class SeenRun:
    """Report an unfinished run of a poll: one's own, or one without an owner that is to be ended."""

    key: int
    epoch: int
    cancel_requested: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class ReadyRun:
    """Name the first run of a project that can begin now, and how many of the project's runs are in progress."""

    project_id: str
    key: int
    running: int


@dataclass(frozen=True, slots=True)
class Page:
    """Hold a part of a run's event log: `frames` from number `first` to number `last`."""

    first: int
    last: int
    frames: bytes


@dataclass(frozen=True, slots=True)
class LogView:
    """Show a run's event log after some event: the next pages, and whether they are all that is there by now.

    `last` is the number of the log's last event, `terminal_body` the status and the body of a run that has ended. A run
    that `is_queued` logs nothing more before a worker begins it.
    """

    pages: tuple[Page, ...]
    is_whole: bool
    last: int
    terminal_body: tuple[str, bytes] | None
    is_queued: bool = False


def lock_holder_of(run: Run) -> str:
    """Name a run's owner as holder of a conversation's lock: the next owner, of a later epoch, takes it over."""
    return f"{run.request.id}@{run.epoch}"


def takes_over(holder: str | None, present: str) -> bool:
    """Tell whether this holder of a lock is the present one, or the same run under a later epoch."""
    if holder is None:
        return False
    name, _, epoch = holder.partition("@")
    present_name, _, present_epoch = present.partition("@")
    return name == present_name and int(epoch or 0) >= int(present_epoch or 0)
