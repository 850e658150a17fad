"""A response in the background: what was ordered, how far it is, and what is known of it while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass

IN_FLIGHT = frozenset({"queued", "in_progress"})
ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked to have done in the background. `id` is the response's, given before upstream is called.

    `headers` are those of the client's that upstream is sent, `request` is the client's body. `is_beta`: it named
    OpenAI's beta. `drawn` is what it was granted of its caller's limits, as the reservation writes it.
    `conversation_id` is that of the conversation to which its turn is appended.
    """

    id: str
    project_id: str
    api_key_id: str
    is_stored: bool
    is_streamed: bool
    headers: Mapping[str, str]
    request: bytes
    is_beta: bool = False
    drawn: bytes | None = None
    model: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """An unfinished response that one process may work on, for as long as `epoch` is its row's.

    `body` is the response object so far. A `status` of in_progress says that upstream may have been asked before.
    `waited` are the seconds since it was ordered.
    """

    key: int
    epoch: int
    order: Order
    status: str
    body: bytes
    cancel_requested: bool
    waited: int

    @property
    def only_ends(self) -> bool:
        """Whether upstream is not asked for it any more, whatever it waited for: it needs nothing but an end."""
        return self.cancel_requested or self.status == "in_progress"


@dataclass(frozen=True, slots=True)
class RunState:
    """What anyone may know of a run."""

    key: int
    status: str
    is_streamed: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Sighting:
    """An unfinished run as a glance at the table shows it: one's own, or one that is to be ended and has no owner."""

    key: int
    epoch: int
    cancel_requested: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first run of a project that can begin now, and how many of the project's runs are worked on."""

    project_id: str
    key: int
    running: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a run's log: `frames` from number `first` to number `last`."""

    first: int
    last: int
    frames: bytes


@dataclass(frozen=True, slots=True)
class LogView:
    """A run's log after some event: the next pages, and whether they are all there is by now.

    `last` is the number of the log's last event, `ending` the status and the body of a run that has ended. A run that
    `is_queued` says nothing more before somebody begins with it.
    """

    pages: tuple[Page, ...]
    is_whole: bool
    last: int
    ending: tuple[str, bytes] | None
    is_queued: bool = False


def holder_of(run: Run) -> str:
    """The name under which a run's owner holds a conversation: the next owner, whose epoch is later, takes it over."""
    return f"{run.order.id}@{run.epoch}"


def takes_over(holder: str | None, present: str) -> bool:
    """Whether this holder of a conversation is the present one, or the same run under a later epoch."""
    if holder is None:
        return False
    name, _, epoch = holder.partition("@")
    present_name, _, present_epoch = present.partition("@")
    return name == present_name and int(epoch or 0) >= int(present_epoch or 0)
