"""Convert text to what both databases can store, and shorten ids to what their indexes have room for."""

import re
from hashlib import sha256

from sqlalchemy import Dialect, Text, TypeDecorator

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Replace every NUL (PostgreSQL refuses it) and lone surrogate (SQLite refuses it) by U+FFFD."""
    # Nearly every text is plain ASCII, and the search is slow.
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


LONGEST_ID = 500
"""The most characters of a stored id: whichever they are, an entry of a PostgreSQL index has room for them."""

_ID_START = LONGEST_ID - 2 * sha256().digest_size


def storable_id(text: str) -> str:
    """Convert an id to the form it is looked up by: storable, and for a longer one its start and the hash of all.

    Upstreams choose the ids of responses and items. The turn itself keeps them in full length.
    """
    if len(text) <= LONGEST_ID:
        return storable(text)
    return storable(text[:_ID_START]) + sha256(text.encode(errors="surrogatepass")).hexdigest()


class StorableText(TypeDecorator[str]):
    """Convert text to storable text as it is bound: a stored value always fits, a compared one simply finds no row."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else storable(value)


class StorableId(StorableText):
    """Convert an id, whose issuer chose its length, by `storable_id` as it is bound."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else storable_id(value)
