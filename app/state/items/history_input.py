"""Select the items of a chain that the next stateless call sends again, and order them as its input."""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain as concatenated
from typing import TypeAlias

from app.state.items import call_pairs
from app.state.items.turn_packing import reader_of
from app.state.records import NO_ACCOUNT, Chain, Item, Turn
from app.wire import error_messages

Readable: TypeAlias = AbstractSet[str | None]
"""The values of an item's `account` that one account can read, None always among them."""


def check_calls(chain: Chain, items: Sequence[Item]) -> None:
    """Raise InvalidRequestError for a call of the latest turn without an output, or an output without a call."""
    if all(turn.outline.reader != NO_ACCOUNT for turn in chain.turns) and reader_of(items) != NO_ACCOUNT:
        # No item is a call.
        return
    for call in call_pairs.open_calls(chain.turns[-1], items):
        raise error_messages.unanswered_call(call.type, call.call_id)
    # Without its call an output could only be dropped. An unfinished call is not sent, and so is none.
    sent = concatenated(*[turn.items for turn in without_failed(chain.turns)], items)
    made = call_pairs.calls_in(item for item in sent if item.account != NO_ACCOUNT)
    for item in items:
        if item.type.endswith("_output") and item.call_id is not None and item.call_id not in made:
            raise error_messages.output_without_call(item.type, item.call_id)


def replay(
    turns: Sequence[Turn], items: Sequence[Item], reads: Readable, expand: Callable[[bytes], bytes]
) -> list[bytes]:
    """Render the history and then the new items as an account can read them, oldest first: parts of a JSON array.

    The account `reads` what is bound to one of these names. `expand` turns a compaction into what an upstream is sent
    for it.
    """
    sent_turns = without_failed(turns)
    if _can_be_sent_whole(sent_turns, items, reads):
        parts = [turn.content for turn in sent_turns]
        parts += [item.content for item in items if item.account != NO_ACCOUNT]
        # A turn without items leaves no comma behind.
        return [part for part in parts if part]
    return [
        expand(item.content) if item.type == "compaction" else item.content for item in items_sent(turns, items, reads)
    ]


def items_sent(turns: Sequence[Turn], items: Sequence[Item], reads: Readable) -> list[Item]:
    """Select the items of the history and the new ones that an account is sent, oldest first.

    Left out: what another account encrypted or owns, with what answers it or led to it; a call of the model's that was
    never answered; a repeated item; and all before an output compaction that this account can read. A compaction that a
    client sent stands beside the items that the client kept.
    """
    sent_turns = [(turn.status, turn.items) for turn in without_failed(turns)]
    everything = [*concatenated(*[each for _, each in sent_turns], items)]
    compactions = (
        place
        for place, item in enumerate(everything)
        if item.type == "compaction" and item.is_output and item.account in reads
    )
    newest_compaction = max(compactions, default=0)
    run = set[str | None]().union(*[call_pairs.run_by_server(status, each) for status, each in sent_turns])
    return _coherent_items(everything, newest_compaction, reads, run)


def without_open_calls(turns: Sequence[Turn], new: Iterable[Item]) -> list[Item]:
    """Return the items of a history that becomes a client's own input, without calls that are never answered."""
    sent_turns = [(turn.status, turn.items) for turn in without_failed(turns)]
    done = call_pairs.answered_calls(concatenated(*[each for _, each in sent_turns], new))
    done |= set().union(*[call_pairs.run_by_server(status, each) for status, each in sent_turns])
    return [
        item
        for _, each in sent_turns
        for item in each
        if not (item.is_output and call_pairs.is_call(item) and item.call_id not in done)
    ]


def _can_be_sent_whole(turns: Sequence[Turn], items: Sequence[Item], reads: Readable) -> bool:
    """Tell whether the rules leave out nothing, so that turns are sent on without inspecting their items."""
    if not {turn.outline.reader for turn in turns} | {reader_of(items)} <= reads:
        return False
    ids = [turn.outline.ids for turn in turns]
    ids.append(tuple([item.id for item in items]))
    # An item may be repeated, perhaps with other content.
    return len(set().union(*ids)) == sum(map(len, ids))


def without_failed(turns: Iterable[Turn]) -> list[Turn]:
    """Drop the turns that failed: they have no output, and their input may be what made them fail."""
    return [turn for turn in turns if turn.status != "failed"]


def without_duplicates(items: Iterable[Item]) -> list[Item]:
    """Drop repeated items.

    An equal id alone does not make an equal item: some clients number their items anew in every turn, and an upstream
    may give one id to two reasoning items of a response.
    """
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for item in items:
        if (item.id, item.content) not in seen:
            seen.add((item.id, item.content))
            kept.append(item)
    return kept


def _coherent_items(everything: list[Item], start: int, reads: Readable, run: AbstractSet[str | None]) -> list[Item]:
    """Select the items from `start` on that an account is sent; calls in `run` need no output."""
    items = without_duplicates(everything[start:])
    readable = [item for item in items if item.account in reads]
    calls, outputs = call_pairs.calls_in(readable), call_pairs.answered_calls(readable)
    all_calls, all_outputs = call_pairs.calls_in(everything), call_pairs.answered_calls(everything)
    kept: list[Item] = []
    follower: Item | None = None
    for item in reversed(items):
        # A client's item goes as sent, unless the other half of its pair is left out.
        orphan = (
            call_pairs.is_call(item)
            and item.call_id not in outputs
            and item.call_id not in run
            and (item.is_output or item.call_id in all_outputs)
        ) or (call_pairs.is_output(item) and item.call_id not in calls and item.call_id in all_calls)
        # Upstream refuses reasoning without the message or call it led to, but not in a client's own input.
        loose = item.type == "reasoning" and item.is_output and (follower is None or not follower.is_output)
        if item.account in reads and not orphan and not loose:
            kept.append(item)
            follower = item
        elif item.type.endswith("_call"):
            follower = None
    kept.reverse()
    return kept
