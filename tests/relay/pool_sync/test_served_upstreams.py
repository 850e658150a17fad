"""Who is served: the configuration first, what is stored beside it, the demo where there is nothing; and the vault."""

from typing import Any

import pytest
from pydantic import SecretStr

from app.relay.pool_sync.served_upstreams import DEMO, ServedUpstreams
from app.security.cipher import SealError
from app.security.encryption import Vault, sealed_under
from app.security.key_ring import KeyRing
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.state.upstreams import NOTHING_STORED, StoredKey, StoredUpstream, StoredUpstreams

VAULT = Vault(KeyRing(b"the present master secret", [b"the master secret before"]))
CONFIGURED = UpstreamSettings(name="main", base_url="http://a/v1", keys=(KeySettings(secret=SecretStr("sk-one")),))


def stored_key(upstream: str, secret: str, vault: Vault = VAULT, **more: Any) -> StoredKey:
    key_id = f"ukey_{secret}"
    fields: dict[str, Any] = {"account": f"{upstream}/{secret}", "name": None, "hint": "", "created_at": 1}
    return StoredKey(
        key_id, upstream, **fields, secret=vault.seal(key_id, secret), settings=more.get("settings", b"{}")
    )


def stored(*rows: StoredUpstream | StoredKey) -> StoredUpstreams:
    upstreams = [row for row in rows if isinstance(row, StoredUpstream)]
    return StoredUpstreams("rev", upstreams, [row for row in rows if isinstance(row, StoredKey)], {})


def secrets_of(upstream: UpstreamSettings) -> list[str]:
    return [key.secret.get_secret_value() for key in upstream.keys]


TEAM = StoredUpstream("team", 1, 1, b'{"base_url":"https://llm.example/v1","state":"upstream"}')


def test_the_demo_is_served_only_where_there_is_nothing_else() -> None:
    assert ServedUpstreams((), VAULT).upstreams(NOTHING_STORED) == (DEMO,)
    assert [one.name for one in ServedUpstreams((), VAULT).upstreams(stored(TEAM))] == ["team"]


def test_stored_keys_join_their_upstream_once() -> None:
    served_upstreams = ServedUpstreams((CONFIGURED,), VAULT)
    keys = [stored_key("main", "sk-two"), stored_key("main", "sk-one"), stored_key("team", "sk-three")]
    main, team = served_upstreams.upstreams(stored(TEAM, *keys, stored_key("gone", "sk-four")))
    assert secrets_of(main) == ["sk-one", "sk-two"]
    assert secrets_of(team) == ["sk-three"]
    assert served_upstreams.keeping == {"team"}
    assert secrets_of(CONFIGURED) == ["sk-one"]
    served_upstreams.upstreams(NOTHING_STORED)
    assert served_upstreams.keeping == set()


def test_the_configuration_wins_over_a_stored_upstream_of_its_name() -> None:
    namesake = StoredUpstream("main", 1, 1, b'{"base_url":"https://elsewhere.example/v1"}')
    (main,) = ServedUpstreams((CONFIGURED,), VAULT).upstreams(stored(namesake))
    assert main is CONFIGURED


def test_what_cannot_be_used_is_left_out() -> None:
    foreign = Vault(KeyRing(b"some other master secret"))
    rows: list[StoredUpstream | StoredKey] = [
        StoredUpstream("broken", 1, 1, b"{"),
        StoredUpstream("newer", 1, 1, b'{"base_url":"https://x/v1","unheard_of":1}'),
        stored_key("main", "sk-foreign", foreign),
        stored_key("main", "sk-odd", settings=b'{"weight":-1}'),
    ]
    (main,) = ServedUpstreams((CONFIGURED,), VAULT).upstreams(stored(*rows))
    assert secrets_of(main) == ["sk-one"]


def test_a_key_that_was_opened_goes_on_when_it_is_sealed_anew_by_a_replica_that_is_ahead() -> None:
    served_upstreams = ServedUpstreams((CONFIGURED,), VAULT)
    served_upstreams.upstreams(stored(stored_key("main", "sk-two")))
    (main,) = served_upstreams.upstreams(
        stored(stored_key("main", "sk-two", Vault(KeyRing(b"the next master secret"))))
    )
    assert secrets_of(main) == ["sk-one", "sk-two"]


def test_a_vault_opens_what_an_earlier_secret_sealed_and_names_both_where_it_cannot() -> None:
    earlier = Vault(KeyRing(b"the master secret before")).seal("ukey_1", "sk-secret")
    assert VAULT.open("ukey_1", earlier) == "sk-secret"
    assert not VAULT.is_current(earlier)
    present = VAULT.seal("ukey_1", "sk-secret")
    named = KeyRing(b"the present master secret").present
    assert present.startswith(f"v1.{named}.")
    assert VAULT.is_current(present)
    assert present != VAULT.seal("ukey_1", "sk-secret")
    with pytest.raises(SealError, match=f"under the secret {named}, and this one is [0-9a-f]{{16}}"):
        Vault(KeyRing(b"some other master secret")).open("ukey_1", present)


def test_a_vault_refuses_what_was_changed_or_moved_to_another_row() -> None:
    sealed = VAULT.seal("ukey_1", "sk-secret")
    with pytest.raises(SealError):
        VAULT.open("ukey_2", sealed)
    for changed in (sealed[:-8], f"{sealed[:-8]}AAAAAAA=", f"v1.{sealed_under(sealed)}.é"):
        with pytest.raises(SealError):
            VAULT.open("ukey_1", changed)
    for form in ("", f"v2.{sealed_under(sealed)}.AAAA", "v1", f"v1.{sealed_under(sealed)}"):
        with pytest.raises(SealError):
            VAULT.open("ukey_1", form)
