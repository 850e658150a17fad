"""Text as both databases can keep it, and ids of a length that their indexes have room for."""

import re
from hashlib import sha256

from sqlalchemy import Dialect, Text, TypeDecorator

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with every NUL (PostgreSQL refuses it) and lone surrogate (SQLite does) replaced by U+FFFD."""
    # Nearly every text is plain: the search would cost more than all else that is done with it.
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


LONGEST_ID = 500
"""The letters of an id as it is kept. Whatever they are, an entry of a PostgreSQL index has room for them."""

_ID_START = LONGEST_ID - 2 * sha256().digest_size


def storable_id(text: str) -> str:
    """The id as it is looked up by: storable, and of a longer one its first letters and the hash of all.

    Upstreams choose the ids of responses and items. The turn itself keeps them in full length.
    """
    if len(text) <= LONGEST_ID:
        return storable(text)
    return storable(text[:_ID_START]) + sha256(text.encode(errors="surrogatepass")).hexdigest()


class StorableText(TypeDecorator[str]):
    """Text made storable on its way in: a stored value always fits, a compared one simply finds no row."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else storable(value)


class StorableId(StorableText):
    """An id of a length that its issuer chose, as `storable_id` makes it."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else storable_id(value)
