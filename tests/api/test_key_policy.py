"""What a good key may do: until when, from where, for what; and what is no key at all."""

import hashlib
from dataclasses import replace

import pytest
from pydantic import SecretStr

from app.errors import ApiError, AuthenticationError, StorageError
from app.security import authentication
from app.security.authentication import Authenticator, KeyHasher, MasterKey, mint_key
from app.security.key_ring import KeyRing
from app.state.policies import CLIENT_SCOPES, SCOPES, KeyPolicy, Scope
from app.storage.keys.store import FoundKey
from tests.builders import NOW, make_caller
from tests.fakes.key_store import ADDRESS, HASHER, KEY, Clock, Keys, authenticator_of, bearer


async def refusal(
    authenticator: Authenticator, key: str = KEY, address: str | None = ADDRESS, scope: Scope = "responses"
) -> tuple[int, str | None, str]:
    with pytest.raises(ApiError) as caught:
        await authenticator.identify(bearer(key), address, scope)
    assert caught.value.type == "invalid_request_error"
    return caught.value.status, caught.value.code, caught.value.message


async def test_a_blocked_key_is_refused_as_one_that_nobody_made(clock: Clock) -> None:
    blocked = authenticator_of(Keys(replace(make_caller(), blocked_at=NOW)))
    assert await refusal(blocked) == await refusal(authenticator_of(Keys()))


async def test_an_expired_key_is_told_so_to_the_second(clock: Clock, keys: Keys) -> None:
    keys.found[HASHER.hash(KEY)] = replace(make_caller(), expires_at=int(clock.time()) + 2)
    authenticator = authenticator_of(keys)
    clock.now += 1.9
    await authenticator.identify(bearer(), ADDRESS, "responses")
    clock.now += 0.1
    status, code, message = await refusal(authenticator)
    assert (status, code) == (401, "invalid_api_key")
    assert "expired" in message
    assert keys.queries == 1


async def test_a_key_before_a_rotation_is_good_to_the_end_of_the_overlap(clock: Clock, keys: Keys) -> None:
    keys.until = int(clock.time()) + 2
    authenticator = authenticator_of(keys)
    await authenticator.identify(bearer(), ADDRESS, "responses")
    clock.now += 2
    assert await refusal(authenticator) == await refusal(authenticator_of(Keys()))


@pytest.mark.parametrize(
    ("networks", "address", "is_within"),
    [
        (("192.0.2.0/24",), "192.0.2.7", True),
        (("192.0.2.0/24",), "192.0.3.7", False),
        (("10.0.0.0/8", "2001:db8::/32"), "2001:db8::1", True),
        (("10.0.0.0/8", "2001:db8::/32"), "2001:db9::1", False),
        (("0.0.0.0/0",), "::1", False),
        (("::ffff:192.0.2.0/120",), "192.0.2.7", True),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", True),
        (("::ffff:0:0/96",), "192.0.2.7", True),
        (("::/0",), "192.0.2.7", False),
        (("192.0.2.0/24",), None, False),
        (("192.0.2.0/24",), "", False),
        (("192.0.2.0/24",), "testclient", False),
        ((), None, True),
    ],
)
async def test_a_key_works_from_its_networks_only(
    clock: Clock, networks: tuple[str, ...], address: str | None, is_within: bool
) -> None:
    key = replace(make_caller(), policy=KeyPolicy(addresses=networks))
    authenticator = authenticator_of(Keys(key))
    if is_within:
        assert await authenticator.identify(bearer(), address, "responses") == key
    else:
        assert (await refusal(authenticator, address=address))[:2] == (403, "ip_not_authorized")


async def test_a_key_works_for_its_scopes_only(clock: Clock) -> None:
    cases: tuple[tuple[tuple[Scope, ...], set[Scope]], ...] = (
        (CLIENT_SCOPES, set(CLIENT_SCOPES)),
        (("models",), {"models"}),
        (("admin",), {"admin", "admin:read"}),
        (("admin:read",), {"admin:read"}),
        ((), set()),
    )
    for scopes, served in cases:
        key = replace(make_caller(), policy=KeyPolicy(scopes=scopes))
        authenticator = authenticator_of(Keys(key))
        for scope in SCOPES:
            if scope in served:
                assert await authenticator.identify(bearer(), ADDRESS, scope) == key
            else:
                status, code, message = await refusal(authenticator, scope=scope)
                assert (status, code) == (403, "insufficient_permissions")
                assert message.startswith(
                    f"You have insufficient permissions for this operation. Missing scopes: {scope}."
                )


async def test_a_policy_that_cannot_be_read_lets_nobody_in(authenticator: Authenticator, keys: Keys) -> None:
    keys.found[HASHER.hash(KEY)] = replace(make_caller(), policy=KeyPolicy(addresses=("nonsense",)))
    with pytest.raises(StorageError):
        await authenticator.identify(bearer(), ADDRESS, "responses")


async def test_what_is_forgotten_is_read_again_at_once(authenticator: Authenticator, keys: Keys) -> None:
    other = mint_key()
    keys.found[HASHER.hash(other)] = replace(make_caller(), id="key_2", project_id="proj_b")
    for changed, queries in (("key_1", 3), ("proj_b", 3), ("key_none", 2), ("proj_a", 3)):
        keys.queries = 0
        authenticator._known.clear()
        for key in (KEY, other):
            await authenticator.identify(bearer(key), ADDRESS, "responses")
        authenticator.forget(changed)
        for key in (KEY, other):
            await authenticator.identify(bearer(key), ADDRESS, "responses")
        assert keys.queries == queries, changed


async def test_what_is_read_while_it_changes_is_not_remembered(authenticator: Authenticator, keys: Keys) -> None:
    find = keys.find

    async def find_meanwhile(key_hash: bytes) -> FoundKey | None:
        found = await find(key_hash)
        authenticator.forget("key_1")
        return found

    keys.find = find_meanwhile  # type: ignore[method-assign]
    await authenticator.identify(bearer(), ADDRESS, "responses")
    assert not authenticator._known


async def test_a_key_of_an_earlier_secret_is_found_and_left_as_it_is(clock: Clock, keys: Keys) -> None:
    renewed = KeyHasher(
        KeyRing(b"the secret after", [b"another in between", b"a secret of sixteen characters and more"])
    )
    authenticator = authenticator_of(keys, renewed)
    assert (await authenticator.identify(bearer(), ADDRESS, "responses")).id == "key_1"
    assert set(keys.found) == {HASHER.hash(KEY)}
    assert HASHER.hash(KEY) in renewed.other_hashes(KEY)
    assert (await refusal(authenticator, mint_key()))[:2] == (401, "invalid_api_key")


async def test_a_stored_hash_is_no_key(authenticator: Authenticator) -> None:
    stored = HASHER.hash(KEY)
    for form in (
        stored.hex(),
        f"sk-aph_{stored.hex()[:38]}",
        f"sk-aph_{stored.hex()[:32]}{authentication._checksum('x')}",
    ):
        assert (await refusal(authenticator, form))[:2] == (401, "invalid_api_key")


async def test_keys_that_share_their_beginning_share_nothing_else(authenticator: Authenticator, keys: Keys) -> None:
    secret = "A" * 31
    twins = [f"sk-aph_{secret}{end}{authentication._checksum(secret + end)}" for end in "BC"]
    keys.found[HASHER.hash(twins[0])] = make_caller()
    await authenticator.identify(bearer(twins[0]), ADDRESS, "responses")
    assert (await refusal(authenticator, twins[1]))[:2] == (401, "invalid_api_key")


async def test_uses_are_written_together_and_kept_while_the_database_is_down(
    authenticator: Authenticator, keys: Keys
) -> None:
    written: list[dict[str, int]] = []

    async def note_uses(last_used: dict[str, int]) -> None:
        if keys.error is not None:
            raise keys.error
        written.append(last_used)

    keys.note_uses = note_uses  # type: ignore[attr-defined]
    other = mint_key()
    keys.found[HASHER.hash(other)] = replace(make_caller(), id="key_2")
    keys.found[HASHER.hash(mint_key())] = replace(make_caller(), id="key_unused")
    for key in (KEY, other, KEY):
        await authenticator.identify(bearer(key), ADDRESS, "responses")
    await refusal(authenticator, mint_key())
    uses = authenticator._uses
    keys.error = StorageError("Down.")
    with pytest.raises(StorageError):
        await uses.write()
    keys.error = None
    await uses.write()
    await uses.write()
    assert [set(noted) for noted in written] == [{"key_1", "key_2"}]


def test_the_master_key_is_itself_and_nothing_else() -> None:
    master = MasterKey(SecretStr("a master key of many characters"))
    assert master.is_carried(bearer("a master key of many characters"))
    assert master.is_carried({"x-api-key": "a master key of many characters"})
    for other in ("a master key of many character", "x", "\udcff", hashlib.sha256(b"a master key").hexdigest()):
        assert not master.is_carried(bearer(other))
    assert not MasterKey(None).is_carried(bearer("a master key of many characters"))
    for none in ({}, {"authorization": "Bearer "}, {"x-api-key": ""}):
        with pytest.raises(AuthenticationError):
            master.is_carried(none)
