"""API keys: made, changed, rotated, blocked and revoked. Must not know how administrators ask."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.administration import rules
from app.administration.actor import Actor
from app.administration.audit import Audit
from app.administration.edits import being_erased, changed_meanwhile, differences
from app.errors import InvalidRequestError, NotFoundError
from app.ids import new_id
from app.state.policy import ANY_KEY, KeyPolicy, administers
from app.state.records import ApiKey
from app.storage.key_store import ChangeKey, CreateKey, KeyStore, Mark, MarkKey, RotateKey
from app.storage.project_store import ProjectStore

_CHANGEABLE: Mapping[str, Callable[[Any], Any]] = {
    "name": rules.check_name,
    "owner": rules.check_owner,
    "tags": rules.check_tags,
    "policy": rules.check_key_policy,
    "expires_at": rules.check_expiry,
}


class Keys:
    """The keys of all projects. What a key may exceed of its project's policy it may in text, and never in effect.

    `mint` makes a key and `hash_of` what is kept of one; `changed` is told the id of each key that is another now.
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
        """Keys of a project or of all, newest first, from behind the one with the id `after`."""
        return await self._keys.list(project_id=project_id, after=after, limit=limit)

    async def get(self, key_id: str) -> ApiKey:
        """The key with this id, whatever its state. Raises NotFoundError."""
        key = await self._keys.get(key_id)
        if key is None:
            raise NotFoundError(f"API key with id '{key_id[:100]}' not found.", param="key_id")
        return key

    async def has_administrator(self) -> bool:
        """Whether there is a key that administers, and is good now."""
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
        policy: KeyPolicy | Mapping[str, Any] = ANY_KEY,
        expires_at: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key: its record, and the key itself, this once.

        Raises InvalidRequestError with `param`, NotFoundError for the project, and PermissionDeniedError for an actor
        who may not write or has not every scope that the key would have.
        """
        key = self._mint()
        record = ApiKey(
            id=new_id("key"),
            project_id=project_id,
            name=rules.check_name(name),
            hint=key[-4:],
            created_at=int(time.time()),
            revoked_at=None,
            retention_days=None,
            owner=rules.check_owner(owner),
            tags=rules.check_tags(tags),
            expires_at=rules.check_expiry(expires_at),
            policy=rules.check_key_policy(policy),
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

        Raises as `create` does, NotFoundError, and ConflictError when `version` is not the current one.
        """
        rules.unknown_members(changes, tuple(_CHANGEABLE))
        values = {field: _CHANGEABLE[field](value) for field, value in changes.items()}
        actor.check_can_write()
        key = await self._living(key_id)
        if "policy" in values:
            # Scopes that it has already are not given to it.
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
        """Another key in its place: the record, and the key itself, this once. The one before is good for the overlap.

        A key that was rotated out before that ends now. Raises as `update` does: who is shown a key can use it.
        """
        overlap = rules.check_overlap(overlap_seconds)
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
        """Refuse the key until it is unblocked. A stream that runs goes on to its end."""
        return await self._mark(actor, "key.block", key_id, "blocked_at", int(time.time()))

    async def unblock(self, actor: Actor, key_id: str) -> ApiKey:
        """Take the key again. Who knows it can use it: raises as `rotate` does."""
        key = await self.get(key_id)
        actor.check_can_give(key.policy.scopes)
        actor.check_outlasts(key.policy, key.expires_at)
        return await self._mark(actor, "key.unblock", key_id, "blocked_at", None)

    async def revoke(self, actor: Actor, key_id: str) -> ApiKey:
        """Refuse the key for ever, the one before it too while an overlap lasts, and the keys that administer by it."""
        return await self._mark(actor, "key.revoke", key_id, "revoked_at", int(time.time()))

    async def _mark(self, actor: Actor, action: str, key_id: str, mark: Mark, at: int | None) -> ApiKey:
        actor.check_can_write()
        await self.get(key_id)
        ended = await self._keys.granted_by(key_id) if mark == "revoked_at" else ()
        # What is so already is no change, and no mistake.
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
    """The key with which another ends that its holder is shown. Raises InvalidRequestError where those would be two."""
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
