"""A turn from its items: what of them can be replayed without looking at them again."""

from collections.abc import Sequence

import msgspec

from app.state.records import NO_ACCOUNT, Item, Outline, Turn

CALLS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
    }
)
OUTPUTS = frozenset(f"{call}_output" for call in CALLS)
# Whether these go again depends on what stands beside them, perhaps in another turn.
_DEPENDENT = CALLS | OUTPUTS | {"compaction"}


def pack(status: str, account: str, items: Sequence[Item]) -> Turn:
    """The turn that this account served, with its items (input before output)."""
    facts = [(item.type, item.is_output, len(item.content), item.account, item.call_id) for item in items]
    outline = Outline(
        status,
        account,
        reader_of(items),
        tuple([item.id for item in items]),
        msgspec.Raw(msgspec.msgpack.encode(facts)),
        b",".join([item.content for item in items if item.account == NO_ACCOUNT]),
    )
    return Turn(outline, b",".join([item.content for item in items if item.account != NO_ACCOUNT]))


def reader_of(items: Sequence[Item]) -> str | None:
    """The account that is sent every one of these items but those nobody can read, whatever stands around them.

    None means any account; NO_ACCOUNT that it depends on the items around them, or that no account can read them all.
    """
    if any(item.type in _DEPENDENT for item in items):
        return NO_ACCOUNT
    readable = [item for item in items if item.account != NO_ACCOUNT]
    # A thought that led to nothing here may have led to nothing at all.
    if readable and readable[-1].type == "reasoning" and readable[-1].is_output:
        return NO_ACCOUNT
    accounts = {item.account for item in readable if item.account is not None}
    if not accounts:
        return None
    return accounts.pop() if len(accounts) == 1 else NO_ACCOUNT
