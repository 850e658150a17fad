"""Who administers. Must not know how they proved it."""

from collections.abc import Collection
from dataclasses import dataclass

from app.errors import PermissionDeniedError
from app.state.policy import SCOPES, Scope, has_scope


@dataclass(frozen=True, slots=True)
class Actor:
    """An administrator: "master key", "key_… (name)", "command line (user)", and the address they come from, if any.

    `scopes` are those that they can give to a key: all, unless they are a key themselves.
    """

    name: str
    address: str | None = None
    can_write: bool = True
    scopes: Collection[Scope] = SCOPES

    def check_can_write(self) -> None:
        """Raise PermissionDeniedError for one who may only look."""
        if not self.can_write:
            raise PermissionDeniedError("You have insufficient permissions for this operation. Missing scopes: admin.")

    def check_can_give(self, scopes: Collection[Scope]) -> None:
        """Raise PermissionDeniedError when a key with these scopes could do what this administrator cannot."""
        missing = [scope for scope in scopes if not has_scope(self.scopes, scope)]
        if missing:
            raise PermissionDeniedError(
                "A key cannot be given or shown by one that may do less. You have insufficient permissions for this "
                f"operation. Missing scopes: {', '.join(missing)}.",
                param="policy.scopes",
            )
