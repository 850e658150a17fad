"""Pair calls with their outputs by `call_id`, whatever their types, and find the calls that a client has to answer.

No table of types says which those are: they are the calls without an output after which the model wrote no more.
"""

from collections.abc import Iterable, Sequence

from app.state.records import NO_ACCOUNT, Item, Turn


def is_call(item: Item) -> bool:
    """Tell whether the item is a call that needs an output. A program, and an approval request, may go without."""
    return item.call_id is not None and item.type.endswith("_call")


def is_output(item: Item) -> bool:
    """Tell whether the item answers a call, or an approval request."""
    return item.call_id is not None and item.type.endswith(("_output", "_approval_response"))


def answered_calls(items: Iterable[Item]) -> set[str | None]:
    """Return the ids of the calls that these items answer."""
    return {item.call_id for item in items if is_output(item)}


def calls_in(items: Iterable[Item]) -> set[str | None]:
    """Return the ids of the calls, and of all else that can be answered, among these items."""
    return {item.call_id for item in items if item.call_id is not None and not is_output(item)}


def run_by_server(status: str, items: Sequence[Item]) -> set[str | None]:
    """Return the ids of a turn's calls that upstream ran without showing an output: the model wrote on after them.

    What it wrote it could only write knowing the outputs. An incomplete turn has none: it may have been cut off.
    """
    if status != "completed":
        return set()
    last = max((place for place, item in enumerate(items) if item.is_output and item.type == "message"), default=0)
    return {item.call_id for item in items[:last] if item.is_output and is_call(item)}


def open_calls(turn: Turn, new: Sequence[Item]) -> list[Item]:
    """Return the calls of a turn that neither its items nor the new ones answer, and that upstream has not run."""
    if turn.status != "completed":
        # The turn may have stopped amid a call, which needs no output.
        return []
    items = turn.items
    done = answered_calls(new) | answered_calls(items) | run_by_server(turn.status, items)
    made_here = (item for item in items if item.is_output and is_call(item) and item.account != NO_ACCOUNT)
    return [item for item in made_here if item.call_id not in done]
