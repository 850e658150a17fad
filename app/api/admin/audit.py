"""The audit log over HTTP, to be read."""

from fastapi import Request, Response
from pydantic import Field

from app.administration import shown
from app.api.admin.forms import LONGEST_ID, PageQuery, read_query
from app.api.admin.pages import page
from app.api.services import ServicesOf


class AuditQuery(PageQuery):
    """Which records: those of one subject (an id or a name), or all."""

    subject: str | None = Field(None, max_length=LONGEST_ID)


async def list_audit_records(request: Request, services: ServicesOf) -> Response:
    """List what administrators did, the latest first."""
    query = read_query(AuditQuery, request)
    found = await services.audit.list(after=query.after, limit=query.limit + 1, subject=query.subject)
    return page([shown.audit_record(record) for record in found], query.limit)
