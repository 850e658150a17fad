"""Serve /admin/v1/audit: list the records of the audit log."""

from fastapi import Request, Response
from pydantic import Field

from app.administration.views import resources
from app.api.admin.answers import page
from app.api.admin.forms import LONGEST_ID, PageQuery, read_query
from app.api.services import ServicesOf


class AuditQuery(PageQuery):
    """Select the records of one subject (an id or a name), or all."""

    subject: str | None = Field(None, max_length=LONGEST_ID)


async def list_audit_records(request: Request, services: ServicesOf) -> Response:
    """List what administrators did, the latest first."""
    query = read_query(AuditQuery, request)
    found = await services.audit.list(after=query.after, limit=query.limit + 1, subject=query.subject)
    return page([resources.audit_record(record) for record in found], query.limit)
