"""Parse the query of a retrieval: its page, `include`, and the event after which a stream resumes."""

import re
from collections.abc import Callable

from fastapi import Request
from starlette.types import Scope

from app.state.items.item_pages import DEFAULT_LIMIT, PageQuery
from app.wire.requests.field_rules import INCLUDE
from app.wire.requests.value_checks import enum, integer

_ORDER = enum("asc", "desc")
_LIMIT = integer(minimum=1, maximum=100)
_CURSOR = integer(minimum=0)
# Longer than any limit here, and short enough to be parsed at no cost.
_INTEGER = re.compile(r"-?[0-9]{1,9}")


def read_page_query(request: Request) -> PageQuery:
    """Parse `limit` (1 to 100), `order`, `after` and `before` of a list call. Raises InvalidRequestError."""
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
    """Tell whether a call has `?beta=true`, the only part of a query that is passed on to upstream."""
    query: bytes = scope.get("query_string", b"")
    return bool(query) and b"beta=true" in query.split(b"&")


def check_include(request: Request, is_strict: Callable[[None], bool]) -> None:
    """Check `include` of a retrieval, in both spellings; it changes nothing: a stored response is returned whole.

    Names that OpenAI does not have pass where an upstream may have them.
    """
    query = request.query_params
    names = [*query.getlist("include"), *query.getlist("include[]")]
    if names and is_strict(None):
        for place, name in enumerate(names):
            INCLUDE(name, f"include[{place}]")


def read_stream_query(request: Request) -> int | None:
    """Parse the number of the event after which a retrieval streams: -1 for all events, None for no stream.

    `include_obfuscation` is accepted and changes nothing: an event log is sent as it was written.
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
