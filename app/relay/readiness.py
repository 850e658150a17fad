"""Whether this process serves calls: not before its database is there, and not for long once it has to end."""

from app.errors import StorageError

_RETRY_SECONDS = "2"


class Readiness:
    """Starts unready. Once `serves` it serves until the process ends; `leaves` tells proxies to go elsewhere first."""

    def __init__(self) -> None:
        self.obstacle: str | None = "starting"
        """Why no call is served yet, in words for anybody; None from then on when calls are."""
        self.is_waiting = False
        """Whether something has to come from outside before calls are served."""
        self.is_leaving = False
        """Whether the process is about to end: calls are served, but no connection outlives its answer."""

    def waits(self, obstacle: str) -> None:
        """Say what is waited for."""
        self.obstacle = obstacle
        self.is_waiting = True

    def serves(self) -> None:
        """Serve calls from now on."""
        self.obstacle = None
        self.is_waiting = False

    def leaves(self) -> None:
        """Serve what comes, and have no more sent."""
        self.is_leaving = True

    def refusal(self) -> StorageError:
        """What a call is told that cannot be served yet."""
        return StorageError(
            f"The gateway is starting and serves no calls yet: {self.obstacle}. Please retry your request.",
            headers={"retry-after": _RETRY_SECONDS},
        )
