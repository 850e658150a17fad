"""What an edit changes, and that somebody else was faster. Must not know what is edited."""

from collections.abc import Mapping
from typing import Any

from app.errors import ConflictError


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The members of `after` that are another `before`, each as the audit log keeps it: `{"from", "to"}`."""
    return {name: {"from": before.get(name), "to": value} for name, value in after.items() if value != before.get(name)}


def being_erased(name: str) -> ConflictError:
    """Nothing of a project is changed, and nothing added to it, that is being erased."""
    return ConflictError(f"The project {name!r} is being erased.", param="project_id")


def changed_meanwhile(noun: str) -> ConflictError:
    """The version that the editor saw is not the current one."""
    return ConflictError(
        f"This {noun} was changed by somebody else meanwhile. Read it again, and make your change to that.",
        param="version",
    )
