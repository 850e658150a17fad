"""Render the answers of /admin/v1: one object, or a page of a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import Response

from app.administration.views import resources

_JSON = "application/json"


def answer(members: Mapping[str, Any], *, status: int = 200) -> Response:
    """Render one object, marked `no-store`: it may hold a new key."""
    return Response(orjson.dumps(members), status_code=status, media_type=_JSON, headers={"cache-control": "no-store"})


def page(found: Sequence[Mapping[str, Any]], limit: int) -> Response:
    """Render a page of up to `limit` objects of what a query for one more has found."""
    return answer(resources.page(found[:limit], has_more=len(found) > limit))
