"""Revoke or expire, with an administrator's key, all keys that it granted the right to administer (ADR 34)."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, or_, select, update

from app.storage.tables import api_keys


def granted(connection: Connection, key_id: str, *, locks: bool = False) -> Sequence[str]:
    """Return the ids of the unrevoked keys that were granted by this one, or by one of those.

    With `locks`, wait for a key that is making another at this moment, and find that one, too.
    """
    found: dict[str, None] = {}
    makers = [key_id]
    while makers:
        owing = select(api_keys.c.id).where(api_keys.c.granted_by.in_(makers), api_keys.c.revoked_at.is_(None))
        rows = connection.scalars(owing.order_by(api_keys.c.id).with_for_update() if locks else owing)
        makers = [each for each in rows if each != key_id and each not in found]
        found |= dict.fromkeys(makers)
    return sorted(found)


def end_granted(connection: Connection, key_id: str, end: Literal["revoked_at", "expires_at"], at: int) -> None:
    """End all granted keys at this time, unless they end before."""
    column = api_keys.c[end]
    own = api_keys.c.id.in_(granted(connection, key_id, locks=True))
    later = update(api_keys).where(own, or_(column.is_(None), column > at))
    connection.execute(later.values({end: at, "version": api_keys.c.version + 1}))
