"""Define the settings of background responses."""

from pydantic import Field

from app.settings.sources import SettingsGroup


class BackgroundSettings(SettingsGroup):
    """Responses in the background: how many at once, how long they wait and are kept."""

    background_runs: int = Field(
        64, ge=1, description="Background responses generated at once per process; of one project seven eighths of it."
    )
    background_queue: int = Field(
        1000, ge=1, description="Background responses of a project that may be unfinished; more get a 429."
    )
    background_wait_seconds: float = Field(
        86_400.0, gt=0, description="Time a background response waits for a rate-limited key before it fails."
    )
    background_keep_seconds: int = Field(
        600, ge=1, description="Time a background response's events, and it if not stored, are kept past its end."
    )
