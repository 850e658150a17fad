"""Find in a call's input what this gateway has sealed, and check and open the compactions."""

from collections.abc import Callable
from typing import Any, TypeAlias

from app.security.cipher import SealError
from app.state.items.account_bound import names_account_bound
from app.state.items.compacted import SEAL, is_sealed_reasoning, sealed_in
from app.wire import error_messages
from app.wire.json.sliced_decoder import ARRAYS, decode, holds
from app.wire.requests.create import CreateRequest

_SEAL = (SEAL.encode(),)

_Unseal: TypeAlias = Callable[[str], bytes]


def find_sealed(request: CreateRequest, unseal: _Unseal) -> tuple[bool, bool]:
    """Tell whether the input has what this gateway sealed, and whether the call names what one account has."""
    given = request.input
    if type(given) not in ARRAYS:
        return False, names_account_bound(request.fields, b"")
    # Searched in place: a copy of a large input would weigh as much again.
    sent = memoryview(request.members["input"])
    return holds(sent, _SEAL) and _has_sealed(given, unseal), names_account_bound(request.fields, sent)


def _has_sealed(given: Any, unseal: _Unseal) -> bool:
    """Tell whether these items have a compaction or reasoning of this gateway's.

    Raises InvalidRequestError for a false compaction. False reasoning is only not read.
    """
    found = False
    for index, item in enumerate(given):
        sealed = sealed_in(item)
        found = found or is_sealed_reasoning(item)
        if sealed is not None:
            found = True
            try:
                unseal(sealed)
            except SealError:
                raise error_messages.unreadable_content(f"input[{index}].encrypted_content", item.get("id")) from None
    return found


def expand(unseal: _Unseal, content: bytes) -> bytes:
    """Open a sealed compaction for upstream; return other items as they are. Raises InvalidRequestError."""
    sealed = sealed_in(decode(content))
    if sealed is None:
        return content
    try:
        return unseal(sealed)
    except SealError:
        raise error_messages.unreadable_content("input", None) from None
