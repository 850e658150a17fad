"""Create, change, rotate, block and revoke API keys, each with its record in the audit log."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from app.administration import validation
from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.errors import being_erased, changed_meanwhile, differences
from app.errors import InvalidRequestError, NotFoundError
from app.ids import new_id
from app.state.policies import CLIENT_SCOPES, STORED_SCOPES, KeyPolicy, Scope, administers
from app.state.records import ApiKey
from app.storage.keys.store import ChangeKey, CreateKey, KeyStore, Mark, MarkKey, RotateKey
from app.storage.projects.store import ProjectStore

_CHANGEABLE: Mapping[str, Callable[[Any], Any]] = {
    "name": validation.check_name,
    "owner": validation.check_owner,
    "tags": validation.check_tags,
    "policy": validation.check_key_policy,
    "expires_at": validation.check_expiry,
}


class ApiKeys:
    """Administer the keys of all projects. A key's policy may exceed its project's in text, and never in effect.

    `mint` makes a key and `hash_of` the hash that is kept of it; `changed` is called with the id of each changed key.
    """

    def __init__(
        self,
        keys: KeyStore,
        projects: ProjectStore,
        audit: Audit,
        *,
        mint: Callable[[], str],
        hash_of: Callable[[str], bytes],
        changed: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._projects = projects
        self._audit = audit
        self._mint = mint
        self._hash_of = hash_of
        self._changed = changed

    async def list(
        self, *, project_id: str | None = None, after: str | None = None, limit: int = 50
    ) -> Sequence[ApiKey]:
        """List keys of a project or of all, newest first, that follow the one with the id `after`."""
        return await self._keys.list(project_id=project_id, after=after, limit=limit)

    async def get(self, key_id: str) -> ApiKey:
        """Return the key with this id, whatever its state. Raises NotFoundError."""
        key = await self._keys.get(key_id)
        if key is None:
            raise NotFoundError(f"API key with id '{key_id[:100]}' not found.", param="key_id")
        return key

    async def has_administrator(self) -> bool:
        """Tell whether there is a valid key with the scope `admin`."""
        now = int(time.time())
        keys = await self._keys.with_own_policy()
        return any(key.is_usable(now) and "admin" in key.policy.scopes for key in keys)

    async def create(
        self,
        actor: Actor,
        *,
        project_id: str,
        name: str,
        owner: str | None = None,
        tags: Sequence[str] = (),
        policy: KeyPolicy | Mapping[str, Any] = MappingProxyType({}),
        expires_at: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key; returns its record, and the key itself, this once.

        A policy that says nothing of scopes gets those of a new key. Raises InvalidRequestError with `param`,
        NotFoundError for the project, and PermissionDeniedError for an actor who may not write or has not every scope
        that the key would have.
        """
        key = self._mint()
        record = ApiKey(
            id=new_id("key"),
            project_id=project_id,
            name=validation.check_name(name),
            hint=key[-4:],
            created_at=int(time.time()),
            revoked_at=None,
            retention_days=None,
            owner=validation.check_owner(owner),
            tags=validation.check_tags(tags),
            expires_at=validation.check_expiry(expires_at),
            policy=validation.check_key_policy(
                # An administrator from before a surface was new has not its scope, and gives the others.
                _with_scopes(policy, _client_scopes(actor.scopes))
            ),
        )
        if administers(record.policy.scopes):
            record = replace(record, granted_by=actor.key_id)
        actor.check_can_write()
        actor.check_can_give(record.policy.scopes)
        actor.check_outlasts(record.policy, record.expires_at)
        project = await self._projects.get(project_id)
        if project is None:
            raise NotFoundError(f"Project with id '{project_id[:100]}' not found.", param="project_id")
        if project.erasing_at is not None:
            raise being_erased(project.name)
        details = {field: getattr(record, field) for field in ("project_id", *_CHANGEABLE)}
        await self._audit.submit(actor, "key.create", record.id, details, CreateKey(record, self._hash_of(key)))
        return await self.get(record.id), key

    async def update(self, actor: Actor, key_id: str, changes: Mapping[str, Any], *, version: int) -> ApiKey:
        """Change name, owner, tags, policy (the whole of it) or expires_at; returns the key as it is now.

        A policy that says nothing of scopes gives those of a client, but no surface that the key does not have.

        Raises as `create` does, NotFoundError, and ConflictError when `version` is not the current one.
        """
        validation.unknown_members(changes, tuple(_CHANGEABLE))
        values = {field: _CHANGEABLE[field](value) for field, value in changes.items()}
        actor.check_can_write()
        key = await self._living(key_id)
        if "policy" in values:
            values["policy"] = validation.check_key_policy(
                _with_scopes(changes["policy"], _client_scopes(key.policy.scopes))
            )
        if "policy" in values:
            # Scopes that the key has already are not given to it.
            actor.check_can_give([scope for scope in values["policy"].scopes if scope not in key.policy.scopes])
        if "policy" in values or "expires_at" in values:
            actor.check_outlasts(values.get("policy", key.policy), values.get("expires_at", key.expires_at))
        details = differences({field: getattr(key, field) for field in values}, values)
        if version != key.version:
            raise changed_meanwhile("API key")
        if details:
            new = {field: values[field] for field in details}
            if administers(values.get("policy", key.policy).scopes) != administers(key.policy.scopes):
                new["granted_by"] = None if administers(key.policy.scopes) else actor.key_id
            change = ChangeKey(key_id, version, new)
            if not await self._audit.submit(actor, "key.update", key_id, details, change):
                raise changed_meanwhile("API key")
        ended = await self._keys.granted_by(key_id) if "expires_at" in details else ()
        return await self._as_changed(key_id, *ended)

    async def rotate(self, actor: Actor, key_id: str, *, overlap_seconds: int) -> tuple[ApiKey, str]:
        """Replace the key; returns its record, and the new key, this once. The old key stays valid for the overlap.

        A key of an earlier rotation ends now. Raises as `update` does: an actor who is shown a key can use it.
        """
        overlap = validation.check_overlap(overlap_seconds)
        actor.check_can_write()
        before = await self._living(key_id)
        actor.check_can_give(before.policy.scopes)
        actor.check_outlasts(before.policy, before.expires_at)
        shown_to = _shown_to(actor, before, overlap)
        key = self._mint()
        change = RotateKey(key_id, before.version, self._hash_of(key), key[-4:], int(time.time()) + overlap, shown_to)
        details = {"overlap_seconds": overlap, "hint": {"from": before.hint, "to": key[-4:]}}
        if not await self._audit.submit(actor, "key.rotate", key_id, details, change):
            raise changed_meanwhile("API key")
        return await self._as_changed(key_id), key

    async def block(self, actor: Actor, key_id: str) -> ApiKey:
        """Block the key until it is unblocked. A running stream goes on to its end."""
        return await self._mark(actor, "key.block", key_id, "blocked_at", int(time.time()))

    async def unblock(self, actor: Actor, key_id: str) -> ApiKey:
        """Unblock the key. Raises as `rotate` does, because an actor may know the key."""
        key = await self.get(key_id)
        actor.check_can_give(key.policy.scopes)
        actor.check_outlasts(key.policy, key.expires_at)
        return await self._mark(actor, "key.unblock", key_id, "blocked_at", None)

    async def revoke(self, actor: Actor, key_id: str) -> ApiKey:
        """Revoke the key for ever, its predecessor during an overlap, and the admin keys that it has made."""
        return await self._mark(actor, "key.revoke", key_id, "revoked_at", int(time.time()))

    async def _mark(self, actor: Actor, action: str, key_id: str, mark: Mark, at: int | None) -> ApiKey:
        actor.check_can_write()
        await self.get(key_id)
        ended = await self._keys.granted_by(key_id) if mark == "revoked_at" else ()
        # A key that is in this state already is no change, and no error.
        await self._audit.submit(actor, action, key_id, {"ends": ended} if ended else {}, MarkKey(key_id, mark, at))
        return await self._as_changed(key_id, *ended)

    async def _living(self, key_id: str) -> ApiKey:
        key = await self.get(key_id)
        if key.revoked_at is not None:
            raise InvalidRequestError(
                "This API key was revoked and cannot be changed any more.", code="key_revoked", param="key_id"
            )
        return key

    async def _as_changed(self, key_id: str, *with_it: str) -> ApiKey:
        for each in (key_id, *with_it):
            self._changed(each)
        return await self.get(key_id)


def _shown_to(actor: Actor, key: ApiKey, overlap: int) -> str | None:
    """Return the key with which a rotated key ends. Raises InvalidRequestError if there would be two such keys."""
    if not administers(key.policy.scopes) or actor.key_id == key.id:
        return key.granted_by
    if overlap and key.granted_by not in (None, actor.key_id):
        raise InvalidRequestError(
            f"Invalid 'overlap_seconds': the key before would end with {key.granted_by}, and the new one not. "
            "Rotate it without an overlap.",
            code="invalid_value",
            param="overlap_seconds",
        )
    return actor.key_id


def _with_scopes(policy: KeyPolicy | Mapping[str, Any], scopes: Sequence[Scope]) -> KeyPolicy | Mapping[str, Any]:
    """Add these scopes to a policy that is given by its members and names none."""
    return {"scopes": scopes, **policy} if isinstance(policy, Mapping) else policy


def _client_scopes(known: Collection[Scope]) -> Sequence[Scope]:
    """Return the scopes of a client, without the surfaces that are newer than whoever has the known scopes."""
    return [scope for scope in CLIENT_SCOPES if scope in STORED_SCOPES or scope in known]
