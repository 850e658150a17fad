"""Which upstreams are served: the configuration's and those that administrators made. Must not know how they are."""

from collections.abc import Mapping, Sequence

import orjson
import structlog
from pydantic import SecretStr, ValidationError

from app.sealing import SealError, Vault
from app.settings_prices import PriceSettings
from app.settings_upstream import AdministeredUpstream, KeySettings, UpstreamSettings
from app.state.upstreams import Stored, StoredKey, StoredUpstream

# It serves its own model and no other: it never stands in for a real one.
DEMO = UpstreamSettings(name="demo", base_url="http://demo.invalid", models=("demo",), validation="openai")

# Nobody pays for it.
DEMO_PRICE = PriceSettings(model="demo", upstream=DEMO.name, input=0, output=0)

_log = structlog.get_logger("antiphon.upstreams")


class Roster:
    """Puts the upstreams together. `configured` are those of the configuration: they come first.

    `keeping` always has the names of those that keep chains themselves.
    """

    def __init__(self, configured: Sequence[UpstreamSettings], vault: Vault) -> None:
        self.configured = configured
        self.keeping: set[str] = set()
        self._vault = vault
        # By key id: a key is opened once, so that one under a secret that is not known here yet goes on.
        self._opened: dict[str, SecretStr] = {}

    def upstreams(self, stored: Stored) -> tuple[UpstreamSettings, ...]:
        """All of them, with the stored keys among theirs; the demo where there is none at all.

        What cannot be used as it is stored is logged and left out.
        """
        added: dict[str, list[KeySettings]] = {}
        for key in stored.keys:
            if (opened := self._key(key)) is not None:
                added.setdefault(key.upstream, []).append(opened)
        names = {upstream.name for upstream in self.configured}
        made = [
            upstream for row in stored.upstreams if row.name not in names and (upstream := _upstream(row)) is not None
        ]
        together = tuple(_with(upstream, added) for upstream in (*self.configured, *made)) or (DEMO,)
        self.keeping.clear()
        self.keeping.update(upstream.name for upstream in together if upstream.state == "upstream")
        return together

    def _key(self, key: StoredKey) -> KeySettings | None:
        try:
            if key.id not in self._opened:
                self._opened[key.id] = SecretStr(self._vault.open(key.id, key.secret))
            return KeySettings(secret=self._opened[key.id], name=key.name, **orjson.loads(key.settings))
        except SealError as error:
            _log.error("a stored upstream key cannot be opened", key=key.id, upstream=key.upstream, reason=str(error))
        except (ValidationError, ValueError):
            _log.error("a stored upstream key cannot be used", key=key.id, upstream=key.upstream)
        return None


def _upstream(row: StoredUpstream) -> AdministeredUpstream | None:
    try:
        return AdministeredUpstream(name=row.name, **orjson.loads(row.settings))
    except (ValidationError, ValueError):
        _log.error("a stored upstream cannot be used", upstream=row.name)
        return None


def _with(upstream: UpstreamSettings, added: Mapping[str, Sequence[KeySettings]]) -> UpstreamSettings:
    known = {key.secret for key in upstream.keys}
    new = {key.secret: key for key in added.get(upstream.name, ()) if key.secret not in known}
    return upstream.model_copy(update={"keys": (*upstream.keys, *new.values())}) if new else upstream
