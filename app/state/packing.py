"""A turn from its items: what of them can be replayed without looking at them again."""

from collections.abc import Collection, Sequence

import msgspec

from app.state.records import NO_ACCOUNT, Item, Outline, Turn


def pack(status: str, account: str, items: Sequence[Item]) -> Turn:
    """The turn that this account served, with its items (input before output)."""
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
    """The turn without the items at these places."""
    left = set(range(len(turn.outline.ids))).difference(places)
    return pack(turn.status, turn.account, list(turn.some(left).values()))


def reader_of(items: Sequence[Item]) -> str | None:
    """The account that is sent every one of these items but those nobody can read, whatever stands around them.

    None means any account; NO_ACCOUNT that it depends on the items around them, or that no account can read them all.
    """
    reader = last = None
    for item in items:
        # Whether these go again depends on what stands beside them, perhaps in another turn.
        if item.call_id is not None or item.type == "compaction":
            return NO_ACCOUNT
        if item.account == NO_ACCOUNT:
            continue
        last = item
        if item.account is not None:
            if reader not in (None, item.account):
                return NO_ACCOUNT
            reader = item.account
    # A thought that led to nothing here may have led to nothing at all.
    if last is not None and last.type == "reasoning" and last.is_output:
        return NO_ACCOUNT
    return reader
