"""Discard the event log of a run that nobody can read."""

from app.wire.responses.tool_secrets import ToolSecrets


class DiscardedLog:
    """Take the events of a run that is not streamed, and keep nothing: only its end is committed."""

    secrets: ToolSecrets | None = None

    async def write(self, frames: bytes) -> None:
        """Discard the frames."""

    def write_now(self, frames: bytes) -> bool:  # noqa: ARG002 - the listener's signature
        """Discard the frame at once."""
        return True

    async def begin_output_with(self, item: bytes) -> None:
        """Discard the item."""

    async def end_stream(self) -> None:
        """Do nothing: there is no log to end."""

    async def drain(self) -> None:
        """Return at once: there is nothing to wait for."""

    def close(self) -> None:
        """Do nothing: there is nothing to drop."""
