"""Serve /admin/v1/projects."""

from typing import Any

from fastapi import Request, Response
from pydantic import Field

from app.administration.views import resources
from app.api.admin.answers import answer, page
from app.api.admin.forms import Body, Edit, PageQuery, read_form, read_query
from app.api.dependencies import Administrator
from app.api.services import ServicesOf


class NewProject(Body):
    """Parse the members of a new project."""

    name: str
    retention_days: int | None = None
    conversation_days: int | None = None
    policy: dict[str, Any] = Field({})


class ProjectEdit(Edit):
    """Parse the members of a project to change."""

    name: str = ""
    retention_days: int | None = None
    conversation_days: int | None = None
    policy: dict[str, Any] = Field({})


async def list_projects(request: Request, services: ServicesOf) -> Response:
    """List the projects, the newest first."""
    query = read_query(PageQuery, request)
    found = await services.projects.list(after=query.after, limit=query.limit + 1)
    return page([resources.project(project) for project in found], query.limit)


async def create_project(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create a project."""
    form = await read_form(NewProject, request, services.body_reader)
    return answer(resources.project(await services.projects.create(actor, **form.given())), status=201)


async def retrieve_project(project_id: str, services: ServicesOf) -> Response:
    """Return one project."""
    return answer(resources.project(await services.projects.get(project_id)))


async def update_project(project_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change a project; what is left out stays as it is."""
    form = await read_form(ProjectEdit, request, services.body_reader)
    changed = await services.projects.update(actor, project_id, form.changes(), version=form.version)
    return answer(resources.project(changed))


async def erase_project(project_id: str, actor: Administrator, services: ServicesOf) -> Response:
    """Begin to erase a project with all that it has; until that is done, it is shown with `erasing_at`."""
    await services.projects.begin_erasure(actor, project_id)
    return answer({"id": project_id, "object": "project.erasure"}, status=202)
