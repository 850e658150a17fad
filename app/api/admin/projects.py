"""The projects over HTTP."""

from typing import Any

from fastapi import Request, Response
from pydantic import Field

from app.administration import shown
from app.api.admin.forms import Body, Edit, PageQuery, read_form, read_query
from app.api.admin.pages import answer, page
from app.api.services import Administrator, ServicesOf


class NewProject(Body):
    """A project that is to be made."""

    name: str
    retention_days: int | None = None
    conversation_days: int | None = None
    policy: dict[str, Any] = Field({})


class ProjectEdit(Edit):
    """What is to be changed of one."""

    name: str = ""
    retention_days: int | None = None
    conversation_days: int | None = None
    policy: dict[str, Any] = Field({})


async def list_projects(request: Request, services: ServicesOf) -> Response:
    """List the projects, the newest first."""
    query = read_query(PageQuery, request)
    found = await services.projects.list(after=query.after, limit=query.limit + 1)
    return page([shown.project(project) for project in found], query.limit)


async def create_project(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create a project."""
    form = await read_form(NewProject, request, services.intake)
    return answer(shown.project(await services.projects.create(actor, **form.given())), status=201)


async def retrieve_project(project_id: str, services: ServicesOf) -> Response:
    """Return one project."""
    return answer(shown.project(await services.projects.get(project_id)))


async def update_project(project_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change a project; what is left out stays as it is."""
    form = await read_form(ProjectEdit, request, services.intake)
    changed = await services.projects.update(actor, project_id, form.changes(), version=form.version)
    return answer(shown.project(changed))


async def erase_project(project_id: str, actor: Administrator, services: ServicesOf) -> Response:
    """Begin to erase a project with all that it has; until that is done, it is shown with `erasing_at`."""
    await services.projects.begin_erasure(actor, project_id)
    return answer({"id": project_id, "object": "project.erasure"}, status=202)
