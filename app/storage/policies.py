"""Policies and tags as columns keep them: JSON, and nothing where nothing is said. Must not know whose they are."""

import msgspec

from app.state.policy import ANY_KEY, ANY_PROJECT, KeyPolicy, ProjectPolicy

_key_policies = msgspec.json.Decoder(KeyPolicy)
_project_policies = msgspec.json.Decoder(ProjectPolicy)
_tags = msgspec.json.Decoder(tuple[str, ...])


def packed(policy: KeyPolicy | ProjectPolicy) -> bytes | None:
    """A policy as its column."""
    return None if policy in (ANY_KEY, ANY_PROJECT) else msgspec.json.encode(policy)


def packed_tags(tags: tuple[str, ...]) -> bytes | None:
    """Tags as their column."""
    return msgspec.json.encode(tags) if tags else None


def key_policy(column: bytes | None) -> KeyPolicy:
    """A key's policy. Raises msgspec.DecodeError for one that this version does not know: it then allows nothing."""
    return ANY_KEY if column is None else _key_policies.decode(column)


def project_policy(column: bytes | None) -> ProjectPolicy:
    """A project's policy; raises as `key_policy` does."""
    return ANY_PROJECT if column is None else _project_policies.decode(column)


def tags(column: bytes | None) -> tuple[str, ...]:
    """A key's tags."""
    return () if column is None else _tags.decode(column)
