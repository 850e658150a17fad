"""Choose the messages that a compaction keeps word for word; a summary replaces the others.

What the model has yet to answer stays whole. Of the history before that stay all instructions, and the user's newest
messages within a budget of tokens and of the bytes that one compaction item holds.
"""

from collections.abc import Iterable, Sequence

from app.state.items.call_pairs import answered_calls, is_output
from app.state.items.compacted import LARGEST_CONTENT, is_summary
from app.state.items.token_estimate import estimate_item
from app.state.records import Item
from app.wire.json.sliced_decoder import decode

TRIGGERED_TOKENS = 20_000
"""The budget of user messages where a client's trigger asks for the compaction, and the turn may be continued."""

# A summary of so many bytes is longer than any useful one.
_SUMMARY_BYTES = 1_000_000
_INSTRUCTING = frozenset({"system", "developer"})


def budget_under(threshold: int) -> int:
    """Return the budget of user messages where a compaction is made from `threshold` tokens on: half of them."""
    return threshold // 2


def user_messages(items: Iterable[Item]) -> list[Item]:
    """Return the user's messages, in order."""
    return [item for item in items if _role(item) == "user" and not is_summary(item)]


def split_history(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Split items into the history and what the model has yet to answer: items after its last text, and their calls."""
    end = len(items)
    while end and (is_output(items[end - 1]) or _role(items[end - 1]) not in {None, "assistant"}):
        end -= 1
    open_ids = answered_calls(items[end:])
    asked: list[Item] = []
    history: list[Item] = []
    for item in items[:end]:
        (asked if not is_output(item) and item.call_id in open_ids else history).append(item)
    return history, [*asked, *items[end:]]


def retained(history: Sequence[Item], budget: int, unanswered: Sequence[Item] = ()) -> list[bytes] | None:
    """Return what stays of a history word for word: all instructions, and the newest user messages within the budget.

    `budget` is in tokens, by estimate. None where no item can hold that with a summary and the unanswered items.
    """
    room = LARGEST_CONTENT - _SUMMARY_BYTES - _size(item.content for item in unanswered)
    roles = [_role(item) for item in history]
    room -= _size(item.content for item, role in zip(history, roles, strict=True) if role in _INSTRUCTING)
    if room < 0:
        return None
    kept: list[bytes] = []
    for item, role in zip(reversed(history), reversed(roles), strict=True):
        if role == "user" and not is_summary(item):
            budget -= estimate_item(item.content)
            room -= len(item.content) + 1
            if budget >= 0 and room >= 0:
                kept.append(item.content)
        elif role in _INSTRUCTING:
            kept.append(item.content)
    return kept[::-1]


def _size(contents: Iterable[bytes]) -> int:
    """Return the bytes of these contents in a run of items."""
    return sum([len(content) + 1 for content in contents])


def _role(item: Item) -> str | None:
    """Return the role of a message; None for what is none."""
    return decode(item.content).get("role") if item.type == "message" else None
