"""A chain as the input of the next stateless call: which items go again, and in what order."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain as concatenated

from app.state import pairs
from app.state.packing import reader_of
from app.state.records import NO_ACCOUNT, Chain, Item, Turn
from app.wire import wording


def check_calls(chain: Chain, items: Sequence[Item]) -> None:
    """Refuse input that leaves a call of the latest turn unanswered, or that answers a call nobody made."""
    if all(turn.outline.reader != NO_ACCOUNT for turn in chain.turns) and reader_of(items) != NO_ACCOUNT:
        # There is no call in any of it.
        return
    for call in pairs.open_calls(chain.turns[-1], items):
        raise wording.unanswered_call(call.type, call.call_id)
    # Without its call an output could only be dropped. One that was not made to the end is not sent, and so none.
    said = concatenated(*[turn.items for turn in said_in(chain.turns)], items)
    made = pairs.made(item for item in said if item.account != NO_ACCOUNT)
    for item in items:
        if item.type.endswith("_output") and item.call_id is not None and item.call_id not in made:
            raise wording.output_without_call(item.type, item.call_id)


def replay(turns: Sequence[Turn], items: Sequence[Item], account: str, expand: Callable[[bytes], bytes]) -> list[bytes]:
    """The history and then the new items, as this account can read them, oldest first: parts of a JSON array.

    `expand` makes of a compaction what an upstream is sent for it.
    """
    said = said_in(turns)
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

    Left out: what another account encrypted or owns, with what answers it or led to it; a call of the model's that was
    never answered; an item that stands there already; and all that a compaction in an answer stands for, if this
    account can read it. One that a client sent stands beside what it kept.
    """
    said = [(turn.status, turn.items) for turn in said_in(turns)]
    everything = [*concatenated(*[each for _, each in said], items)]
    compactions = (
        place
        for place, item in enumerate(everything)
        if item.type == "compaction" and item.is_output and _is_readable(item, account)
    )
    newest_compaction = max(compactions, default=0)
    run = set[str | None]().union(*[pairs.run_by_server(status, each) for status, each in said])
    return _coherent(everything, newest_compaction, account, run)


def settled(turns: Sequence[Turn], new: Iterable[Item]) -> list[Item]:
    """The items of a history that is to be a client's own, before these: without calls that will never be answered."""
    said = [(turn.status, turn.items) for turn in said_in(turns)]
    done = pairs.answered(concatenated(*[each for _, each in said], new))
    done |= set().union(*[pairs.run_by_server(status, each) for status, each in said])
    return [
        item
        for _, each in said
        for item in each
        if not (item.is_output and pairs.is_call(item) and item.call_id not in done)
    ]


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


def said_in(turns: Iterable[Turn]) -> list[Turn]:
    """These turns without those that failed: such a one said nothing, and its input may be what made it fail."""
    return [turn for turn in turns if turn.status != "failed"]


def once(items: Iterable[Item]) -> list[Item]:
    """These items without those that stand there already.

    An equal id alone does not make an equal item: some clients number their items anew in every turn, and an upstream
    may give one id to two thoughts of a response.
    """
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for item in items:
        if (item.id, item.content) not in seen:
            seen.add((item.id, item.content))
            kept.append(item)
    return kept


def _coherent(everything: list[Item], start: int, account: str, run: AbstractSet[str | None]) -> list[Item]:
    """The items from this place on that the account is sent; `run` are the calls that need no output."""
    items = once(everything[start:])
    readable = [item for item in items if _is_readable(item, account)]
    calls, outputs = pairs.made(readable), pairs.answered(readable)
    all_calls, all_outputs = pairs.made(everything), pairs.answered(everything)
    kept: list[Item] = []
    follower: Item | None = None
    for item in reversed(items):
        # What a client sent goes as it sent it, unless its other half is left behind.
        orphan = (
            pairs.is_call(item)
            and item.call_id not in outputs
            and item.call_id not in run
            and (item.is_output or item.call_id in all_outputs)
        ) or (pairs.is_output(item) and item.call_id not in calls and item.call_id in all_calls)
        # Upstream refuses a thought without the message or call it led to. What a client wrote itself is its own.
        loose = item.type == "reasoning" and item.is_output and (follower is None or not follower.is_output)
        if _is_readable(item, account) and not orphan and not loose:
            kept.append(item)
            follower = item
        elif item.type.endswith("_call"):
            follower = None
    kept.reverse()
    return kept
