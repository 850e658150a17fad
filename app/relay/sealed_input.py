"""Compactions that this gateway has sealed, in the input of a call: found, checked, and opened for upstream."""

from collections.abc import Callable
from typing import Any, TypeAlias

from app.sealing import SealError
from app.state.compaction import SEAL, sealed_in
from app.state.ownership import names_owned
from app.wire import wording
from app.wire.requests import CreateRequest
from app.wire.slices import ARRAYS, decode, holds

_SEAL = (SEAL.encode(),)

_Unseal: TypeAlias = Callable[[str], bytes]


def look_into(request: CreateRequest, unseal: _Unseal) -> tuple[bool, bool]:
    """Whether the input has a compaction of this gateway's, and whether the call names what only one account has."""
    given = request.input
    if type(given) not in ARRAYS:
        return False, names_owned(request.fields, b"")
    # Looked through where it is: a copy of a large input would weigh as much again.
    sent = memoryview(request.members["input"])
    return holds(sent, _SEAL) and _has_sealed(given, unseal), names_owned(request.fields, sent)


def _has_sealed(given: Any, unseal: _Unseal) -> bool:
    """Whether a compaction of this gateway's is among these items. Raises InvalidRequestError for a false one."""
    found = False
    for place, item in enumerate(given):
        sealed = sealed_in(item)
        if sealed is not None:
            found = True
            try:
                unseal(sealed)
            except SealError:
                raise wording.unreadable_content(f"input[{place}].encrypted_content", item.get("id")) from None
    return found


def expand(unseal: _Unseal, content: bytes) -> bytes:
    """What an upstream is sent for a compaction. Raises InvalidRequestError for one that cannot be opened."""
    sealed = sealed_in(decode(content))
    if sealed is None:
        return content
    try:
        return unseal(sealed)
    except SealError:
        raise wording.unreadable_content("input", None) from None
