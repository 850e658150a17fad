"""Make, change and erase projects, by whatever way administrators ask."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from app.administration import rules
from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.edits import being_erased, changed_meanwhile, differences
from app.errors import ConflictError, NotFoundError, StorageError
from app.ids import new_id
from app.state.policy import ANY_PROJECT, ProjectPolicy
from app.state.records import Project
from app.storage.project_erasure import EraseProject, MarkErasing, ProjectErasure
from app.storage.project_store import NAME_TAKEN, ChangeProject, CreateProject, ProjectStore
from app.storage.retention import Retention

# Of an administrator's request; what is left then is done by the gateway's duty.
_SHORTEN_SECONDS = 5.0
# Who goes on with an erasure whose administrator's process ended.
_GATEWAY = Actor("gateway")

_CHANGEABLE: Mapping[str, Callable[[Any], Any]] = {
    "name": rules.check_name,
    "retention_days": rules.check_days,
    "conversation_days": partial(rules.check_days, param="conversation_days"),
    "policy": rules.check_project_policy,
}


class Projects:
    """All projects. `changed` is told the id of each that is another now."""

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
        conversation_days: int | None = None,
        policy: ProjectPolicy | Mapping[str, Any] = ANY_PROJECT,
    ) -> Project:
        """A new project. Raises InvalidRequestError with `param`, and ConflictError for a name that is taken."""
        project = Project(
            new_id("proj"),
            rules.check_name(name),
            rules.check_days(retention_days),
            int(time.time()),
            rules.check_project_policy(policy),
            conversation_days=rules.check_days(conversation_days, "conversation_days"),
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
        rules.unknown_members(changes, tuple(_CHANGEABLE))
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
                # Here, for whoever looks next; the duty does what this process leaves, and what ends meanwhile.
                with suppress(TimeoutError, StorageError):
                    async with asyncio.timeout(_SHORTEN_SECONDS):
                        await self._retention.shorten(project_id, values["retention_days"])
        self._changed(project_id)
        return await self.get(project_id)

    async def begin_erasure(self, actor: Actor, project_id: str) -> Project:
        """Revoke the project's keys and mark it: `erase`, or the gateway's duty, removes all that it has, and itself.

        Raises NotFoundError. Nothing brings it back; a second time changes nothing.
        """
        actor.check_can_write()
        project = await self.get(project_id)
        details = {"name": project.name}
        await self._audit.submit(actor, "project.erase", project_id, details, MarkErasing(project_id))
        self._changed(project_id)
        return project

    async def erase(self, actor: Actor, project_id: str) -> None:
        """Erase a project with all that it has, to the end. Raises as `begin_erasure` does."""
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
        """Go on with every retention that became shorter, for what is stored."""
        await self._retention.apply()

    async def erase_marked(self) -> None:
        """Go on with every erasure that was begun, whoever began it."""
        for project_id in await self._erasure.marked():
            with suppress(NotFoundError):
                await self.erase(_GATEWAY, project_id)

    def _days(self, retention_days: int | None) -> int:
        return retention_days or self._retention.default_days


def _taken(name: str) -> ConflictError:
    return ConflictError(f"There is already a project named {name!r}.", code=NAME_TAKEN, param="name")
