"""Another configuration while the gateway serves: all of it is in force, or none. Must not know who asked for it."""

from collections.abc import Callable

import structlog

from app.errors import ConfigurationError
from app.relay.keeper import Keeper
from app.settings import Settings

_log = structlog.get_logger("antiphon.settings")


class Reload:
    """Reads the settings again, with `read`, when it is called. Upstreams and their keys change, calls go on.

    `latest` are those that were read last without a mistake.
    """

    def __init__(self, settings: Settings, read: Callable[[Settings], Settings], keeper: Keeper) -> None:
        self._settings = self.latest = settings
        self._read = read
        self._keeper = keeper

    def __call__(self) -> None:
        """Put in force what is written now. Mistakes are logged, every one, and then nothing changes."""
        try:
            settings = self._read(self._settings)
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("the settings have a mistake", problem=problem)
            _log.error("the settings were not read again: those before stay in force", mistakes=len(error.problems))
            return
        self.latest = settings
        self._keeper.configure(settings.upstreams)
        waiting = [name for name, group in settings if name != "upstreams" and group != getattr(self._settings, name)]
        if waiting:
            _log.warning("these settings are different, and take effect at the next start", tables=waiting)
        _log.info("the settings were read again", upstreams=[upstream.name for upstream in settings.upstreams])
