"""The query of a retrieval: which page, what is included, from where a stream goes on."""

import re
from collections.abc import Callable

from fastapi import Request
from starlette.types import Scope

from app.state.listing import DEFAULT_LIMIT, PageQuery
from app.wire.fields import enum, integer
from app.wire.request_fields import INCLUDE

_ORDER = enum("asc", "desc")
_LIMIT = integer(minimum=1, maximum=100)
_CURSOR = integer(minimum=0)
# Longer than any limit in question, and short enough to be read as a number at no cost.
_INTEGER = re.compile(r"-?[0-9]{1,9}")


def read_page_query(request: Request) -> PageQuery:
    """`limit` 1 to 100, `order`, `after` and `before` of a list call."""
    query = request.query_params
    order = query.get("order", "desc")
    _ORDER(order, "order")
    limit = query.get("limit", str(DEFAULT_LIMIT))
    size: int | str = int(limit) if _INTEGER.fullmatch(limit) else limit
    _LIMIT(size, "limit")
    return PageQuery(
        limit=int(size),
        ascending=order == "asc",
        after=query.get("after") or None,
        before=query.get("before") or None,
    )


def is_beta(scope: Scope) -> bool:
    """Whether a call names OpenAI's beta (`?beta=true`), as upstream is told. No other part of a query goes there."""
    query: bytes = scope.get("query_string", b"")
    return bool(query) and b"beta=true" in query.split(b"&")


def check_include(request: Request, is_strict: Callable[[None], bool]) -> None:
    """`include` of a retrieval, in both of its spellings. A stored response is returned with all that it has.

    Names that OpenAI does not have pass where any upstream may have them.
    """
    query = request.query_params
    names = [*query.getlist("include"), *query.getlist("include[]")]
    if names and is_strict(None):
        for place, name in enumerate(names):
            INCLUDE(name, f"include[{place}]")


def read_stream_query(request: Request) -> int | None:
    """The event after which a retrieval streams, -1 for all of them; None when it does not stream.

    `include_obfuscation` is taken, and changes nothing: a log is given as it was written.
    """
    query = request.query_params
    if query.get("stream", "false").lower() in {"false", "0", ""}:
        return None
    given = query.get("starting_after")
    if given is None:
        return -1
    after: int | str = int(given) if _INTEGER.fullmatch(given) else given
    _CURSOR(after, "starting_after")
    return int(after)
