"""Create, change and erase projects, each with its record in the audit log."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from app.administration import validation
from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.errors import being_erased, changed_meanwhile, differences
from app.errors import ConflictError, NotFoundError, StorageError
from app.ids import new_id
from app.state.policies import ANY_PROJECT, ProjectPolicy
from app.state.records import Project
from app.storage.projects.erasure import EraseProject, MarkErasing, ProjectErasure
from app.storage.projects.store import NAME_TAKEN, ChangeProject, CreateProject, ProjectStore
from app.storage.responses.retention import Retention

# Time within an administrator's request; the periodic task does the rest.
_SHORTEN_SECONDS = 5.0
# The actor who goes on with an erasure that another process began.
_GATEWAY = Actor("gateway")

_CHANGEABLE: Mapping[str, Callable[[Any], Any]] = {
    "name": validation.check_name,
    "retention_days": validation.check_days,
    "conversation_days": partial(validation.check_days, param="conversation_days"),
    "policy": validation.check_project_policy,
}


class Projects:
    """Administer all projects. `changed` is called with the id of each changed project."""

    def __init__(
        self,
        projects: ProjectStore,
        audit: Audit,
        retention: Retention,
        erasure: ProjectErasure,
        *,
        changed: Callable[[str], None],
    ) -> None:
        self._projects = projects
        self._audit = audit
        self._retention = retention
        self._erasure = erasure
        self._changed = changed

    async def list(self, *, after: str | None = None, limit: int = 50) -> Sequence[Project]:
        """List projects, newest first, that follow the one with the id `after`."""
        return await self._projects.list(after=after, limit=limit)

    async def get(self, project_id: str) -> Project:
        """Return the project with this id. Raises NotFoundError."""
        project = await self._projects.get(project_id)
        if project is None:
            raise NotFoundError(f"Project with id '{project_id[:100]}' not found.", param="project_id")
        return project

    async def find(self, name: str) -> Project | None:
        """Return the project of this name, or None."""
        return await self._projects.find(name)

    async def create(
        self,
        actor: Actor,
        *,
        name: str,
        retention_days: int | None = None,
        conversation_days: int | None = None,
        policy: ProjectPolicy | Mapping[str, Any] = ANY_PROJECT,
    ) -> Project:
        """Create a project. Raises InvalidRequestError with `param`, and ConflictError for a name that is taken."""
        project = Project(
            new_id("proj"),
            validation.check_name(name),
            validation.check_days(retention_days),
            int(time.time()),
            validation.check_project_policy(policy),
            conversation_days=validation.check_days(conversation_days, "conversation_days"),
        )
        details = {field: getattr(project, field) for field in _CHANGEABLE}
        if not await self._audit.submit(actor, "project.create", project.id, details, CreateProject(project)):
            raise _taken(project.name)
        return project

    async def update(self, actor: Actor, project_id: str, changes: Mapping[str, Any], *, version: int) -> Project:
        """Change name, retention_days, conversation_days or policy (the whole of it); returns the project as it is now.

        A shorter retention holds for what is stored as well. Raises as `create` does, NotFoundError, and ConflictError
        when `version` is not the current one.
        """
        validation.unknown_members(changes, tuple(_CHANGEABLE))
        values = {field: _CHANGEABLE[field](value) for field, value in changes.items()}
        actor.check_can_write()
        project = await self.get(project_id)
        if project.erasing_at is not None:
            raise being_erased(project.name)
        details = differences({field: getattr(project, field) for field in values}, values)
        if "name" in details and await self._projects.find(values["name"]) is not None:
            raise _taken(values["name"])
        if version != project.version:
            raise changed_meanwhile("project")
        if details:
            shortens = "retention_days" in details and self._days(values["retention_days"]) < self._days(
                project.retention_days
            )
            change = ChangeProject(project_id, version, {field: values[field] for field in details}, shortens)
            try:
                is_changed = await self._audit.submit(actor, "project.update", project_id, details, change)
            except StorageError as error:
                if error.code != NAME_TAKEN:
                    raise
                raise _taken(values["name"]) from error
            if not is_changed:
                raise changed_meanwhile("project")
            if shortens:
                # At once, for the next reader; the periodic task does what this leaves, and turns that end meanwhile.
                with suppress(TimeoutError, StorageError):
                    async with asyncio.timeout(_SHORTEN_SECONDS):
                        await self._retention.shorten(project_id, values["retention_days"])
        self._changed(project_id)
        return await self.get(project_id)

    async def begin_erasure(self, actor: Actor, project_id: str) -> Project:
        """Revoke the project's keys and mark it for `erase`, by this process or the periodic task.

        Raises NotFoundError. Nothing brings the project back; a second call changes nothing.
        """
        actor.check_can_write()
        project = await self.get(project_id)
        details = {"name": project.name}
        await self._audit.submit(actor, "project.erase", project_id, details, MarkErasing(project_id))
        self._changed(project_id)
        return project

    async def erase(self, actor: Actor, project_id: str) -> None:
        """Erase a project with all that it has. Raises as `begin_erasure` does."""
        project = await self.begin_erasure(actor, project_id)
        details = {"name": project.name}
        await self._erasure.empty(project_id)
        while not await self._audit.submit(actor, "project.erased", project_id, details, EraseProject(project_id)):
            if await self._projects.get(project_id) is None:
                # Another process was faster.
                break
            await self._erasure.pause()
            await self._erasure.empty(project_id)
        await self._erasure.empty_log()

    async def shorten_marked(self) -> None:
        """Apply every shortened retention to stored responses."""
        await self._retention.apply()

    async def erase_marked(self) -> None:
        """Finish every erasure that was begun, in whichever process."""
        for project_id in await self._erasure.marked():
            with suppress(NotFoundError):
                await self.erase(_GATEWAY, project_id)

    def _days(self, retention_days: int | None) -> int:
        return retention_days or self._retention.default_days


def _taken(name: str) -> ConflictError:
    return ConflictError(f"There is already a project named {name!r}.", code=NAME_TAKEN, param="name")
