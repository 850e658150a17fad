"""How many calls and how many of their bytes a process holds, as an operator says it."""

from pydantic import Field

from app.settings_sources import SettingsGroup

_MIB = 1024 * 1024


class MemorySettings(SettingsGroup):
    """What a process holds of calls at once: their number is the server's matter, their bytes are here."""

    max_buffered_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes held for calls per process: bodies, histories, answers. More wait, then get a 503. "
        "A quarter of the memory there is by the workers, from 32 MB to 384 MB, when unset.",
    )
    max_context_bytes: int = Field(
        192 * _MIB, ge=1, description="Largest history with its new input that is sent upstream; more get a 400."
    )
    admission_wait_seconds: float = Field(
        10.0, ge=0, description="Time a call waits for a place, or for bytes of the budget, before it gets a 503."
    )
