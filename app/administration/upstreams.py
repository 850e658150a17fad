"""List, create, change and test upstreams and their keys, and take accounts out of service."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ValidationError

from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.errors import changed_meanwhile, differences, validation_error
from app.administration.upstream_address import check_address
from app.errors import ConflictError, InvalidRequestError, NotFoundError
from app.ids import new_id
from app.security.encryption import Vault
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.state.account_conditions import AccountState, Control
from app.state.upstreams import StoredKey, StoredUpstream, StoredUpstreams
from app.storage.upstreams.store import (
    AddKey,
    ChangeUpstream,
    ControlAccount,
    CreateUpstream,
    DeleteUpstream,
    RemoveKey,
    UpstreamStore,
)
from app.upstream.account import account_name
from app.upstream.call.attempt import TestResult
from app.upstream.http.egress_policy import EgressPolicy
from app.upstream.pool.pool import Pool
from app.wire import error_messages

_MOST_UPSTREAMS = 100
_MOST_KEYS = 1000
_LARGEST_SETTINGS = 64 * 1024
_SHOWN_OF_A_KEY = 4
# The end of a shorter key would give too much of it away.
_LONG_ENOUGH_TO_SHOW = 16

M = TypeVar("M", bound=BaseModel)
Origin = Literal["config", "database"]
Versioned: TypeAlias = tuple[UpstreamSettings, int]
"""An upstream of the database, and its version."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """Hold an account as this process knows it. `key_id` and `hint` are set for a key of the database."""

    state: AccountState
    source: Origin
    key_id: str | None
    hint: str | None


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """Hold an upstream with its accounts; `version` is set for an upstream of the database."""

    settings: UpstreamSettings
    source: Origin
    version: int | None
    accounts: Sequence[AccountView]


class Upstreams:
    """Administer the upstreams of the database; those of the configuration are listed, and changed there.

    `configured` returns the configuration's; `test` calls upstream with an account; `changed` is called after each
    change; `egress_policy` limits the addresses of administrators' upstreams.
    """

    def __init__(
        self,
        store: UpstreamStore,
        audit: Audit,
        vault: Vault,
        pool: Pool,
        *,
        configured: Callable[[], Sequence[UpstreamSettings]],
        test: Callable[[str], Awaitable[TestResult]],
        changed: Callable[[], None],
        egress_policy: EgressPolicy,
    ) -> None:
        self._store = store
        self._audit = audit
        self._vault = vault
        self._pool = pool
        self._configured = configured
        self._test = test
        self._changed = changed
        self._egress_policy = egress_policy

    async def list(self) -> Sequence[UpstreamView]:
        """List all upstreams that this process serves, in their order, each with its accounts."""
        stored = await self._store.read()
        keys = {key.account: key for key in stored.keys}
        reports = self._pool.report()
        return [
            self._view(
                upstream, stored, [_account(state, keys) for state in reports if state.upstream == upstream.name]
            )
            for upstream in self._pool.upstreams
        ]

    async def create(self, actor: Actor, spec: Mapping[str, Any]) -> Versioned:
        """Create an upstream from UpstreamSettings without keys. Raises InvalidRequestError, ConflictError."""
        # First: for an actor who may only read, no name is resolved either.
        actor.check_can_write()
        upstream = await self._checked(spec)
        stored = await self._store.read()
        if len(stored.upstreams) >= _MOST_UPSTREAMS:
            raise ConflictError(f"There are {_MOST_UPSTREAMS} upstreams, the most that are kept.")
        _check_no_keys(upstream.name, stored, "name")
        row = StoredUpstream(upstream.name, 1, int(time.time()), _packed(upstream))
        is_new = upstream.name not in self._names_configured()
        if not is_new or not await self._submit(
            actor, "upstream.create", upstream.name, _members(upstream), CreateUpstream(row)
        ):
            raise ConflictError(
                f"There is already an upstream named {upstream.name!r}.", code="name_taken", param="name"
            )
        return upstream, row.version

    async def update(self, actor: Actor, name: str, changes: Mapping[str, Any], *, version: int) -> Versioned:
        """Change some of an upstream's settings. Raises as `create` does, and NotFoundError.

        ConflictError when `version` is not the current one, or when its keys would go to another host.
        """
        actor.check_can_write()
        stored = await self._store.read()
        row = self._row(name, stored)
        if "name" in changes:
            raise error_messages.unknown_parameter("name")
        before = orjson.loads(row.settings)
        upstream = await self._checked({**before, "name": name, **changes})
        if version != row.version:
            raise changed_meanwhile("upstream")
        if urlsplit(upstream.base_url)[:2] != urlsplit(before["base_url"])[:2]:
            _check_no_keys(name, stored, "base_url")
        # Members that are left out are at their defaults.
        details = differences(before, {**dict.fromkeys(before), **_members(upstream)})
        if not details:
            return upstream, version
        change = ChangeUpstream(name, version, _packed(upstream))
        if not await self._submit(actor, "upstream.update", name, details, change):
            raise changed_meanwhile("upstream")
        return upstream, version + 1

    async def delete(self, actor: Actor, name: str) -> None:
        """Delete an upstream and its keys; calls on it go on. Raises NotFoundError or ConflictError."""
        self._row(name, await self._store.read())
        if not await self._submit(actor, "upstream.delete", name, {}, DeleteUpstream(name)):
            raise _no_upstream(name)

    async def add_key(self, actor: Actor, upstream: str, spec: Mapping[str, Any]) -> StoredKey:
        """Add a key to an upstream, also to one of the configuration: KeySettings, with the key itself as `secret`."""
        stored = await self._store.read()
        if upstream not in self._names_configured() | {row.name for row in stored.upstreams}:
            raise _no_upstream(upstream)
        if len(stored.keys) >= _MOST_KEYS:
            raise ConflictError(f"There are {_MOST_KEYS} upstream keys, the most that are kept.")
        key = _read(KeySettings, spec)
        secret = key.secret.get_secret_value()
        account = account_name(upstream, secret)
        if self._pool.account(account) is not None or _has_key(stored, account):
            raise _key_exists()
        key_id = new_id("ukey")
        row = StoredKey(
            key_id,
            upstream,
            account,
            key.name,
            secret[-_SHOWN_OF_A_KEY:] if len(secret) >= _LONG_ENOUGH_TO_SHOW else "",
            int(time.time()),
            self._vault.seal(key_id, secret),
            orjson.dumps(key.model_dump(exclude={"secret", "name"}, exclude_defaults=True)),
        )
        details = {"id": key_id, "account": account, **key.model_dump(exclude={"secret"}, exclude_defaults=True)}
        if not await self._submit(actor, "upstream_key.create", upstream, details, AddKey(row)):
            # Another administrator may have been faster, with the key or with its name.
            if _has_key(await self._store.read(), account):
                raise _key_exists()
            raise ConflictError("This upstream has a key of this name.", code="name_taken", param="name")
        return row

    async def remove_key(self, actor: Actor, upstream: str, key_id: str) -> None:
        """Remove a key; calls with it go on. Raises NotFoundError."""
        details = {"id": key_id}
        if not await self._submit(actor, "upstream_key.delete", upstream, details, RemoveKey(upstream, key_id)):
            raise NotFoundError(f"Upstream key with id '{key_id[:100]}' not found.", param="key_id")

    async def control(self, actor: Actor, account: str, state: Control) -> None:
        """Take an account out of service on every replica, or back into it. Raises NotFoundError."""
        self._check_account(account)
        await self._submit(actor, f"account.{state}", account, {}, ControlAccount(account, state))

    async def test(self, actor: Actor, account: str) -> TestResult:
        """Test by a call whether upstream accepts this account's key. Raises NotFoundError."""
        actor.check_can_write()
        self._check_account(account)
        return await self._test(account)

    async def _submit(self, actor: Actor, action: str, subject: str, details: Mapping[str, Any], change: Any) -> bool:
        done: bool = await self._audit.submit(actor, action, subject, details, change)
        if done:
            self._changed()
        return done

    async def _checked(self, spec: Mapping[str, Any]) -> UpstreamSettings:
        if "keys" in spec:
            raise error_messages.unknown_parameter("keys")
        upstream = _read(UpstreamSettings, spec)
        if len(_packed(upstream)) > _LARGEST_SETTINGS:
            raise InvalidRequestError(f"An upstream's settings have {_LARGEST_SETTINGS} bytes at most.")
        await check_address(upstream.base_url, self._egress_policy)
        return upstream

    def _row(self, name: str, stored: StoredUpstreams) -> StoredUpstream:
        if name in self._names_configured():
            raise ConflictError(f"The upstream {name!r} is in the configuration: change it there.", param="name")
        row = next((row for row in stored.upstreams if row.name == name), None)
        if row is None:
            raise _no_upstream(name)
        return row

    def _view(
        self, upstream: UpstreamSettings, stored: StoredUpstreams, accounts: Sequence[AccountView]
    ) -> UpstreamView:
        row = next((row for row in stored.upstreams if row.name == upstream.name), None)
        if row is None or upstream.name in self._names_configured():
            return UpstreamView(upstream, "config", None, accounts)
        return UpstreamView(upstream, "database", row.version, accounts)

    def _names_configured(self) -> set[str]:
        return {upstream.name for upstream in self._configured()}

    def _check_account(self, account: str) -> None:
        if self._pool.account(account) is None:
            raise NotFoundError(f"Account '{account[:100]}' not found.", param="account")


def _account(state: AccountState, keys: Mapping[str, StoredKey]) -> AccountView:
    key = keys.get(state.name)
    return AccountView(state, "config", None, None) if key is None else AccountView(state, "database", key.id, key.hint)


def _read(kind: type[M], spec: Mapping[str, Any]) -> M:
    """Validate settings; raises InvalidRequestError in OpenAI's words, quoting no value: it may be the key."""
    try:
        return kind.model_validate(dict(spec))
    except ValidationError as error:
        raise validation_error(error.errors()[0]) from None


def _members(upstream: UpstreamSettings) -> dict[str, Any]:
    return upstream.model_dump(mode="json", exclude={"name", "keys"}, exclude_defaults=True)


def _packed(upstream: UpstreamSettings) -> bytes:
    return orjson.dumps(_members(upstream))


def _check_no_keys(name: str, stored: StoredUpstreams, param: str) -> None:
    """Raise ConflictError for an upstream with stored keys: they must not be sent to another address."""
    if any(key.upstream == name for key in stored.keys):
        raise ConflictError(
            f"There are keys for an upstream named {name!r} at another address, and they would go to this one. "
            "Remove them first.",
            code="upstream_has_keys",
            param=param,
        )


def _has_key(stored: StoredUpstreams, account: str) -> bool:
    return any(key.account == account for key in stored.keys)


def _key_exists() -> ConflictError:
    return ConflictError("This upstream has this key already.", code="key_exists", param="secret")


def _no_upstream(name: str) -> NotFoundError:
    return NotFoundError(f"Upstream '{name[:100]}' not found.", param="name")
