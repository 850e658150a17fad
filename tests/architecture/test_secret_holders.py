"""What holds a secret shows it to nobody who prints it: a traceback's text, a log line, a failed assertion."""

from collections.abc import Callable

import pytest
from httpx import URL
from pydantic import SecretStr

from app.api.admin.forms import Open
from app.boot.installation import FirstKeys
from app.relay.pool_sync.served_upstreams import ServedUpstreams
from app.security.authentication import KeyHasher, MasterKey, mint_key
from app.security.encryption import Sealer, Vault
from app.security.key_ring import KeyRing
from app.settings.gateway import load_settings
from app.state.records import ApiKey, Project
from app.state.upstreams import StoredKey, StoredUpstreams
from app.storage.keys.bootstrap import CreateFirstKeys
from app.storage.keys.store import CreateKey, RotateKey
from app.storage.upstreams.store import AddKey
from app.upstream.account import accounts_of_all
from app.upstream.headers import request_headers
from app.upstream.pool.pool import Pool
from app.upstream.transport import UpstreamRequest
from tests.fakes.canaries import Evidence

_SECRET = "a master secret that nobody may see"
_PREVIOUS = "the master secret that was before it"
_UPSTREAM_KEY = "gsk_of-an-upstream-0123456789abcdef"
_STORED = "xai-kept-in-the-database-0123456789"
_ADMIN = "the key of whoever administers all"
_KEY = mint_key()
_HASH = KeyHasher(KeyRing(_SECRET.encode())).hash(_KEY)
_SEALED = Vault(KeyRing(_SECRET.encode())).seal("ukey_1", _STORED)
_SECRETS: dict[str, str | bytes] = {
    "secret": _SECRET,
    "previous": _PREVIOUS,
    "upstream key": _UPSTREAM_KEY,
    "stored key": _STORED,
    "admin key": _ADMIN,
    "key": _KEY,
    "hash": _HASH,
    "sealed": _SEALED.rpartition(".")[2],
    "password": "pa55word-0123456789-pa55word",
}
_SETTINGS = load_settings(
    environ={
        "OPENAI_API_KEY": _UPSTREAM_KEY,
        "ANTIPHON_SECRET_KEY": _SECRET,
        "ANTIPHON_PREVIOUS_SECRET_KEYS": _PREVIOUS,
        "ANTIPHON_ADMIN_KEY": _ADMIN,
        "DATABASE_URL": f"postgresql://antiphon:{_SECRETS['password']!s}@localhost/antiphon",
        "ANTIPHON_LIMITS_URL": f"redis://:{_SECRETS['password']!s}@localhost/0",
    }
)
_RECORD = ApiKey("key_1", "proj_1", "laptop", _KEY[-4:], 0, None, None)
_ROW = StoredKey("ukey_1", "openai", "openai/1", None, _STORED[-4:], 0, _SEALED, b"{}")
_RING = KeyRing(_SECRET.encode(), (_PREVIOUS.encode(),))
_VAULT = Vault(_RING)
_UPSTREAMS = ServedUpstreams(_SETTINGS.upstreams, _VAULT).upstreams(StoredUpstreams("1", (), (_ROW,), {}))

_ACCOUNTS = accounts_of_all(_UPSTREAMS)
_HOLDERS: dict[str, object] = {
    "settings": _SETTINGS,
    "settings of the storage": _SETTINGS.storage,
    "settings of the server": _SETTINGS.server,
    "upstreams": _UPSTREAMS,
    "accounts": _ACCOUNTS,
    "headers": [request_headers(account, stream=True) for account in _ACCOUNTS],
    "requests": [
        UpstreamRequest("GET", URL("http://a"), request_headers(account, stream=False), 1.0) for account in _ACCOUNTS
    ],
    "pool": Pool(_UPSTREAMS, 1.0),
    "report": Pool(_UPSTREAMS, 1.0).report(),
    "API key": _RECORD,
    "first keys": FirstKeys(_KEY, _ADMIN),
    "new key": CreateKey(_RECORD, _HASH),
    "rotation": RotateKey("key_1", 1, _HASH, "abcd", 0),
    "founding": CreateFirstKeys(Project("proj_1", "default", None, 0), [(_RECORD, _HASH)]),
    "stored key": _ROW,
    "new stored key": AddKey(_ROW),
    "stored": StoredUpstreams("1", (), (_ROW,), {}),
    "ring": [_RING, _RING.named, *_RING.others],
    "hasher": KeyHasher(_RING),
    "master key": MasterKey(SecretStr(_ADMIN)),
    "vault": _VAULT,
    "sealer": Sealer(_RING),
    "form": Open.model_validate({"secret": _STORED}),
}


def test_there_are_secrets_to_be_shown() -> None:
    assert [account.authorization.get_secret_value() for account in _ACCOUNTS if account.authorization] == [
        f"Bearer {_UPSTREAM_KEY}",
        f"Bearer {_STORED}",
    ]


@pytest.mark.parametrize("show", [repr, str])
@pytest.mark.parametrize("name", _HOLDERS)
def test_a_holder_of_secrets_does_not_show_them(name: str, show: Callable[[object], str]) -> None:
    shown = Evidence()
    shown.add("here", show(_HOLDERS[name]))
    assert shown.leaks(_SECRETS, {}) == set()


def test_the_settings_as_json_mask_every_secret() -> None:
    shown = Evidence()
    shown.add("here", _SETTINGS.model_dump_json())
    assert shown.leaks(_SECRETS, {}) == set()
