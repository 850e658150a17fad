"""Decide whether calls should be sent to this process: which checks make `/readyz` a 503, and which are only named."""

from collections.abc import Mapping
from typing import NamedTuple

from app.errors import StorageError
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.process.periodic_tasks import PeriodicTasks
from app.storage.health_check import HealthCheck

_RETRY_SECONDS = "2"


class ReadinessReport(NamedTuple):
    """Report whether calls should be sent here, and what each check found, in words that hold no secret."""

    is_ready: bool
    checks: Mapping[str, str]


class Readiness:
    """Hold the state of this process: unready at first, serving after `serves`, told to proxies by `leaves`."""

    def __init__(self) -> None:
        self.obstacle: str | None = "starting"
        """Why no call is served yet, in words for anybody; None once calls are served."""
        self.is_waiting = False
        """Whether something has to come from outside before calls are served."""
        self.is_leaving = False
        """Whether the process is about to end: calls are served, but no connection outlives its answer."""

    def waits(self, obstacle: str) -> None:
        """Set what is waited for."""
        self.obstacle = obstacle
        self.is_waiting = True

    def serves(self) -> None:
        """Serve calls from now on."""
        self.obstacle = None
        self.is_waiting = False

    def leaves(self) -> None:
        """Serve what comes, and ask proxies to send no more."""
        self.is_leaving = True

    async def report(self, registry: CallRegistry, health: HealthCheck, tasks: PeriodicTasks) -> ReadinessReport:
        """Check admission, database and schema: unready where one fails. A failing periodic task is only named.

        So calls are sent here while the gateway is open and not about to end, its database takes writes, and its schema
        is this version's. Before calls are served the database is not asked.
        """
        if self.obstacle is not None:
            return ReadinessReport(is_ready=False, checks={"admission": "starting", "reason": self.obstacle})
        admission = "ok" if registry.is_open else "closed"
        checks = {"admission": "draining" if self.is_leaving else admission, **await health.report()}
        is_ready = all(state == "ok" for state in checks.values())
        if failing := tasks.failing:
            # A failing task is tried again by itself, and calls can be served meanwhile.
            checks["failing duties"] = ", ".join(f"{task.name} ({task.reason})" for task in failing)
        return ReadinessReport(is_ready, checks)

    def unready_error(self) -> StorageError:
        """Make the error of a call that cannot be served yet."""
        return StorageError(
            f"The gateway is starting and serves no calls yet: {self.obstacle}. Please retry your request.",
            headers={"retry-after": _RETRY_SECONDS},
        )
