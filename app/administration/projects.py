"""Projects: made and changed. Must not know how administrators ask."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.administration import rules
from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.edits import changed_meanwhile, differences
from app.errors import ConflictError, NotFoundError, StorageError
from app.ids import new_id
from app.state.policy import ANY_PROJECT, ProjectPolicy
from app.state.records import Project
from app.storage.project_store import NAME_TAKEN, ChangeProject, CreateProject, ProjectStore

_CHANGEABLE: Mapping[str, Callable[[Any], Any]] = {
    "name": rules.check_name,
    "retention_days": rules.check_retention_days,
    "policy": rules.check_project_policy,
}


class Projects:
    """All projects. `changed` is told the id of each that is another now."""

    def __init__(self, projects: ProjectStore, audit: Audit, *, changed: Callable[[str], None]) -> None:
        self._projects = projects
        self._audit = audit
        self._changed = changed

    async def list(self, *, after: str | None = None, limit: int = 50) -> Sequence[Project]:
        """Projects, newest first, from behind the one with the id `after`."""
        return await self._projects.list(after=after, limit=limit)

    async def get(self, project_id: str) -> Project:
        """The project with this id. Raises NotFoundError."""
        project = await self._projects.get(project_id)
        if project is None:
            raise NotFoundError(f"Project with id '{project_id[:100]}' not found.", param="project_id")
        return project

    async def find(self, name: str) -> Project | None:
        """The project of this name."""
        return await self._projects.find(name)

    async def create(
        self,
        actor: Actor,
        *,
        name: str,
        retention_days: int | None = None,
        policy: ProjectPolicy | Mapping[str, Any] = ANY_PROJECT,
    ) -> Project:
        """A new project. Raises InvalidRequestError with `param`, and ConflictError for a name that is taken."""
        project = Project(
            new_id("proj"),
            rules.check_name(name),
            rules.check_retention_days(retention_days),
            int(time.time()),
            rules.check_project_policy(policy),
        )
        details = {field: getattr(project, field) for field in _CHANGEABLE}
        if not await self._audit.submit(actor, "project.create", project.id, details, CreateProject(project)):
            raise _taken(project.name)
        return project

    async def update(self, actor: Actor, project_id: str, changes: Mapping[str, Any], *, version: int) -> Project:
        """Change name, retention_days or policy (the whole of it); returns the project as it is now.

        Raises as `create` does, NotFoundError, and ConflictError when `version` is not the current one.
        """
        rules.unknown_members(changes, tuple(_CHANGEABLE))
        values = {field: _CHANGEABLE[field](value) for field, value in changes.items()}
        actor.check_can_write()
        project = await self.get(project_id)
        details = differences({field: getattr(project, field) for field in values}, values)
        if "name" in details and await self._projects.find(values["name"]) is not None:
            raise _taken(values["name"])
        if version != project.version:
            raise changed_meanwhile("project")
        if details:
            change = ChangeProject(project_id, version, {field: values[field] for field in details})
            try:
                is_changed = await self._audit.submit(actor, "project.update", project_id, details, change)
            except StorageError as error:
                if error.code != NAME_TAKEN:
                    raise
                raise _taken(values["name"]) from error
            if not is_changed:
                raise changed_meanwhile("project")
        self._changed(project_id)
        return await self.get(project_id)


def _taken(name: str) -> ConflictError:
    return ConflictError(f"There is already a project named {name!r}.", code=NAME_TAKEN, param="name")
