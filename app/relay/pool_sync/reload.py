"""Reload the configuration while the gateway serves: all of it takes effect, or none."""

from collections.abc import Callable

import structlog

from app.errors import ConfigurationError
from app.relay.pool_sync.sync import PoolSync
from app.settings.gateway import Settings

_log = structlog.get_logger("antiphon.settings")


class Reload:
    """Read the settings again, with `read`, when called. Upstreams and their keys change, calls go on.

    `latest` are the settings that were read last without a mistake.
    """

    def __init__(self, settings: Settings, read: Callable[[Settings], Settings], pool_sync: PoolSync) -> None:
        self._settings = self.latest = settings
        self._read = read
        self._pool_sync = pool_sync

    def __call__(self) -> None:
        """Apply the settings as they are written now. Every mistake is logged, and with one nothing changes."""
        try:
            settings = self._read(self._settings)
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("the settings have a mistake", problem=problem)
            _log.error("the settings were not read again: those before stay in force", mistakes=len(error.problems))
            return
        self.latest = settings
        self._pool_sync.configure(settings.upstreams)
        waiting = [name for name, group in settings if name != "upstreams" and group != getattr(self._settings, name)]
        if waiting:
            _log.warning("these settings are different, and take effect at the next start", tables=waiting)
        _log.info("the settings were read again", upstreams=[upstream.name for upstream in settings.upstreams])
