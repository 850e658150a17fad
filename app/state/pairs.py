"""Calls and their outputs: paired by `call_id`, whatever their types, and told apart by what happened.

No table says which calls a client answers: those that nobody has answered, and after which the model said no more.
"""

from collections.abc import Iterable, Sequence

from app.state.records import NO_ACCOUNT, Item, Turn


def is_call(item: Item) -> bool:
    """Whether an output has to answer this. A program, and a request for an approval, may wait for theirs."""
    return item.call_id is not None and item.type.endswith("_call")


def is_output(item: Item) -> bool:
    """Whether this answers a call, or a request for an approval."""
    return item.call_id is not None and item.type.endswith(("_output", "_approval_response"))


def answered(items: Iterable[Item]) -> set[str | None]:
    """The ids of the calls that these items answer."""
    return {item.call_id for item in items if is_output(item)}


def made(items: Iterable[Item]) -> set[str | None]:
    """The ids of the calls, and of all else that can be answered, among these items."""
    return {item.call_id for item in items if item.call_id is not None and not is_output(item)}


def run_by_server(status: str, items: Sequence[Item]) -> set[str | None]:
    """The ids of a turn's calls that its server has run without showing an output: in the end the model went on.

    What it said then it could only say knowing them. A turn that did not complete has none: it may have been cut off.
    """
    if status != "completed":
        return set()
    last = max((place for place, item in enumerate(items) if item.is_output and item.type == "message"), default=0)
    return {item.call_id for item in items[:last] if item.is_output and is_call(item)}


def open_calls(turn: Turn, new: Sequence[Item]) -> list[Item]:
    """The calls of a turn that neither its own items nor these new ones answer, and that its server has not run."""
    if turn.status != "completed":
        # It may have stopped amid a call: nothing is owed for it.
        return []
    items = turn.items
    done = answered(new) | answered(items) | run_by_server(turn.status, items)
    made_here = (item for item in items if item.is_output and is_call(item) and item.account != NO_ACCOUNT)
    return [item for item in made_here if item.call_id not in done]
