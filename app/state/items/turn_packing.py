"""Pack a turn's items into an outline and joined content, so that most turns are replayed without inspecting items."""

from collections.abc import Collection, Sequence

import msgspec

from app.state.records import NO_ACCOUNT, Item, Outline, Turn


def pack(status: str, account: str, items: Sequence[Item]) -> Turn:
    """Pack the items (input before output) of the turn that this account served."""
    facts = []
    given: list[bytes] = []
    withheld: list[bytes] = []
    for item in items:
        facts.append((item.type, item.is_output, len(item.content), item.account, item.call_id))
        (withheld if item.account == NO_ACCOUNT else given).append(item.content)
    outline = Outline(
        status,
        account,
        reader_of(items),
        tuple([item.id for item in items]),
        msgspec.Raw(msgspec.msgpack.encode(facts)),
        b",".join(withheld),
    )
    return Turn(outline, b",".join(given))


def without(turn: Turn, places: Collection[int]) -> Turn:
    """Pack the turn without the items at these places."""
    left = set(range(len(turn.outline.ids))).difference(places)
    return pack(turn.status, turn.account, list(turn.items_at(left).values()))


def reader_of(items: Sequence[Item]) -> str | None:
    """Return the account that can be sent all of these items but the withheld ones, whatever stands around them.

    None means any account; NO_ACCOUNT that it depends on the items around them, or that no account can read them all.
    """
    reader = last = None
    for item in items:
        # Whether these are sent depends on the items around them, perhaps in another turn.
        if item.call_id is not None or item.type == "compaction":
            return NO_ACCOUNT
        if item.account == NO_ACCOUNT:
            continue
        last = item
        if item.account is not None:
            if reader not in (None, item.account):
                return NO_ACCOUNT
            reader = item.account
    # Reasoning at the end may have led to nothing at all.
    if last is not None and last.type == "reasoning" and last.is_output:
        return NO_ACCOUNT
    return reader
