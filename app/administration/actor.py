"""Check what an administrator may change and give away to a key."""

from collections.abc import Collection
from dataclasses import dataclass

from app.errors import PermissionDeniedError
from app.state.ip_addresses import Network, read_network
from app.state.policies import SCOPES, KeyPolicy, Scope, administers, has_scope


@dataclass(frozen=True, slots=True)
class Actor:
    """Hold who administers: "master key", "key_… (name)" or "command line (user)", and the client's address, if any.

    `scopes` are those that the actor can give to a key; `expires_at` and `addresses` bound when and from where such a
    key can administer. Nothing is bounded unless the actor is a key itself, as it was at `key_version`.
    """

    name: str
    address: str | None = None
    can_write: bool = True
    scopes: Collection[Scope] = SCOPES
    expires_at: int | None = None
    addresses: Collection[str] = ()
    key_id: str | None = None
    key_version: int = 0

    def check_can_write(self) -> None:
        """Raise PermissionDeniedError for an actor who may only read."""
        if not self.can_write:
            raise PermissionDeniedError("You have insufficient permissions for this operation. Missing scopes: admin.")

    def check_can_give(self, scopes: Collection[Scope]) -> None:
        """Raise PermissionDeniedError if a key with these scopes could do what this actor cannot."""
        missing = [scope for scope in scopes if not has_scope(self.scopes, scope)]
        if missing:
            raise _stronger(
                f"You have insufficient permissions for this operation. Missing scopes: {', '.join(missing)}.",
                "policy.scopes",
            )

    def check_outlasts(self, policy: KeyPolicy, expires_at: int | None) -> None:
        """Raise PermissionDeniedError for a key that could administer longer, or from elsewhere, than this actor."""
        if not administers(policy.scopes):
            return
        if self.expires_at is not None and (expires_at is None or expires_at > self.expires_at):
            raise _stronger(f"It may administer until {self.expires_at} at the latest.", "expires_at")
        own = [read_network(network) for network in self.addresses]
        given = [read_network(network) for network in policy.addresses]
        if own and not (given and all(any(_is_part(part, whole) for whole in own) for part in given)):
            raise _stronger(f"It may administer from {', '.join(self.addresses)} alone.", "policy.addresses")


def _is_part(part: Network, whole: Network) -> bool:
    return part.version == whole.version and part.network_address in whole and part.broadcast_address in whole


def _stronger(what: str, param: str) -> PermissionDeniedError:
    return PermissionDeniedError(f"A key cannot be given or shown by one that may do less. {what}", param=param)
