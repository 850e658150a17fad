"""Serve /admin/v1/usage: sums of calls, as JSON or CSV, and the calls themselves."""

import time
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import BeforeValidator, Field

from app.administration.views import resources
from app.administration.views.usage_csv import usage_csv
from app.api.admin.answers import answer, page
from app.api.admin.forms import LONGEST_ID, PageLimit, Query, read_query
from app.api.services import ServicesOf
from app.state.usage import Grouping

_CSV = "text/csv"
_DEFAULT_SECONDS = 30 * 86_400
_FOREVER = 2**40


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


_Moment = Annotated[int | None, Field(ge=0, le=_FOREVER)]
_Name = Annotated[str | None, Field(max_length=LONGEST_ID)]


class Span(Query):
    """Select calls that began in [since, until), unix seconds; by default those of the last 30 days."""

    since: _Moment = None
    until: _Moment = None
    project: _Name = None
    key: _Name = None

    def filters(self) -> dict[str, Any]:
        """Return the filters that every query of the store takes."""
        until = int(time.time()) + 1 if self.until is None else self.until
        since = max(0, until - _DEFAULT_SECONDS) if self.since is None else self.since
        return {"since": since, "until": until, "project_id": self.project, "api_key_id": self.key}


class SumsQuery(Span):
    """Select sums: their groups, their calls, and JSON or CSV."""

    group_by: Annotated[list[Grouping], BeforeValidator(_split)] = Field([])
    model: _Name = None
    upstream: _Name = None
    format: Literal["json", "csv"] | None = None


class EntriesQuery(Span):
    """Select the calls that follow the one with the id `after`."""

    after: Annotated[int | None, Field(ge=0, le=_FOREVER)] = None
    limit: PageLimit = 20


async def summarize_usage(request: Request, services: ServicesOf) -> Response:
    """Sum up the calls of a time, by project, key, model, upstream, day or hour; as CSV on request."""
    query = read_query(SumsQuery, request)
    found = await services.usage.summary(
        group_by=query.group_by, model=query.model, upstream=query.upstream, **query.filters()
    )
    sums = [resources.usage_sum(each) for each in found]
    if query.format == "csv" or (query.format is None and _CSV in request.headers.get("accept", "")):
        return Response(usage_csv(sums), media_type=_CSV, headers={"cache-control": "no-store"})
    return answer(resources.page(sums))


async def list_entries(request: Request, services: ServicesOf) -> Response:
    """List the calls themselves, the latest first."""
    query = read_query(EntriesQuery, request)
    found = await services.usage.entries(after=query.after, limit=query.limit + 1, **query.filters())
    return page([resources.usage_entry(each) for each in found], query.limit)
