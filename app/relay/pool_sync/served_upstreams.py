"""Combine the upstreams that are served: the configuration's and those that administrators made."""

from collections.abc import Mapping, Sequence

import orjson
import structlog
from pydantic import SecretStr, ValidationError

from app.security.cipher import SealError
from app.security.encryption import Vault
from app.settings.prices import PriceSettings
from app.settings.upstreams import AdministeredUpstream, KeySettings, UpstreamSettings
from app.state.upstreams import StoredKey, StoredUpstream, StoredUpstreams

# The demo serves its own model and no other: it never stands in for a real upstream.
DEMO = UpstreamSettings(name="demo", base_url="http://demo.invalid", models=("demo",), validation="openai")

# Nobody pays for the demo.
DEMO_PRICE = PriceSettings(model="demo", upstream=DEMO.name, input=0, output=0)

_log = structlog.get_logger("antiphon.upstreams")


class ServedUpstreams:
    """Combine the upstreams. The `configured` ones come first.

    `keeping` always has the names of upstreams that keep chains themselves.
    """

    def __init__(self, configured: Sequence[UpstreamSettings], vault: Vault) -> None:
        self.configured = configured
        self.keeping: set[str] = set()
        self._vault = vault
        # By key id: a key is opened once, and is still used when it is sealed anew under a secret not known here yet.
        self._opened: dict[str, SecretStr] = {}

    def upstreams(self, stored: StoredUpstreams) -> tuple[UpstreamSettings, ...]:
        """Return all upstreams, with the stored keys among theirs; the demo where there is none at all.

        A stored upstream or key that cannot be used is logged and left out.
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
