"""The answers of the administration: an object, or a page of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import Response

from app.administration import shown

_JSON = "application/json"


def answer(members: Mapping[str, Any], *, status: int = 200) -> Response:
    """One object. Nothing on the way keeps a copy: one may hold a new key."""
    return Response(orjson.dumps(members), status_code=status, media_type=_JSON, headers={"cache-control": "no-store"})


def page(found: Sequence[Mapping[str, Any]], limit: int) -> Response:
    """A page of up to `limit`, of what was found when one more was asked for."""
    return answer(shown.page(found[:limit], has_more=len(found) > limit))
