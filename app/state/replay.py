"""A chain as the input of the next stateless call: which items go again, and in what order."""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain as concatenated

from app.state.packing import CALLS, OUTPUTS, reader_of
from app.state.records import NO_ACCOUNT, Chain, Item, Turn
from app.wire import wording


def check_calls(chain: Chain, items: Sequence[Item]) -> None:
    """Refuse input that leaves a call of the latest turn unanswered, or that answers a call nobody made.

    A turn that did not complete may have stopped amid a call: nothing is owed for it.
    """
    if all(turn.outline.reader != NO_ACCOUNT for turn in chain.turns) and reader_of(items) != NO_ACCOUNT:
        # There is no call in any of it.
        return
    tip = chain.turns[-1]
    answered = _call_ids(items, OUTPUTS) | _call_ids(tip.items, OUTPUTS)
    for item in tip.items:
        if tip.status == "completed" and item.type in CALLS and item.is_output and item.call_id not in answered:
            raise wording.unanswered_call(item.type, item.call_id)
    made = _call_ids(concatenated(_history(chain.turns), items), CALLS)
    for item in items:
        if item.type in OUTPUTS and item.call_id not in made:
            raise wording.output_without_call(item.type, item.call_id)


def replay(turns: Sequence[Turn], items: Sequence[Item], account: str, expand: Callable[[bytes], bytes]) -> list[bytes]:
    """The history and then the new items, as this account can read them, oldest first: parts of a JSON array.

    `expand` makes of a compaction what an upstream is sent for it.
    """
    said = [turn for turn in turns if turn.status != "failed"]
    if _stands_as_it_is(said, items, account):
        parts = [turn.content for turn in said]
        parts += [item.content for item in items if item.account != NO_ACCOUNT]
        # A turn without items leaves no comma behind.
        return [part for part in parts if part]
    return [
        expand(item.content) if item.type == "compaction" else item.content for item in standing(turns, items, account)
    ]


def standing(turns: Sequence[Turn], items: Sequence[Item], account: str) -> list[Item]:
    """The items of the history and then the new ones, those that this account is sent, oldest first.

    Left out: what another account encrypted or owns, calls without output and outputs without call, a thought whose
    consequence is left out, an item that stands there already, and all that a compaction in an answer stands for, if
    this account can read it. One that a client sent stands beside what it kept.
    """
    everything = list(concatenated(_history(turns), items))
    compactions = (
        place
        for place, item in enumerate(everything)
        if item.type == "compaction" and item.is_output and _is_readable(item, account)
    )
    newest_compaction = max(compactions, default=0)
    return _coherent(_once(everything[newest_compaction:]), account)


def _stands_as_it_is(turns: Sequence[Turn], items: Sequence[Item], account: str) -> bool:
    """Whether the rules leave out nothing of this, so that it can be sent on without looking at its items."""
    if not {turn.outline.reader for turn in turns} | {reader_of(items)} <= {None, account}:
        return False
    ids = [turn.outline.ids for turn in turns]
    ids.append(tuple([item.id for item in items]))
    # An item may stand there already, perhaps with other content.
    return len(set().union(*ids)) == sum(map(len, ids))


def _is_readable(item: Item, account: str) -> bool:
    return item.account is None or item.account == account


def _history(turns: Iterable[Turn]) -> Iterable[Item]:
    # A failed turn said nothing, and its input may be what made it fail: the chain goes on without it.
    return (item for turn in turns if turn.status != "failed" for item in turn.items)


def _call_ids(items: Iterable[Item], types: Collection[str]) -> set[str | None]:
    return {item.call_id for item in items if item.type in types}


def _once(items: Iterable[Item]) -> list[Item]:
    # An equal id alone does not make an equal item: some clients number their items anew in every turn.
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for item in items:
        if (item.id, item.content) not in seen:
            seen.add((item.id, item.content))
            kept.append(item)
    return kept


def _coherent(items: list[Item], account: str) -> list[Item]:
    readable = [item for item in items if _is_readable(item, account)]
    calls, outputs = _call_ids(readable, CALLS), _call_ids(readable, OUTPUTS)
    kept: list[Item] = []
    follower: Item | None = None
    for item in reversed(items):
        orphan = (item.type in CALLS and item.call_id not in outputs) or (
            item.type in OUTPUTS and item.call_id not in calls
        )
        # Upstream refuses a thought without the message or call it led to. What a client wrote itself is its own.
        loose = item.type == "reasoning" and item.is_output and (follower is None or not follower.is_output)
        if _is_readable(item, account) and not orphan and not loose:
            kept.append(item)
            follower = item
        elif item.type.endswith("_call"):
            follower = None
    kept.reverse()
    return kept
