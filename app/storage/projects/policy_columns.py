"""Encode policies and tags of projects and keys as JSON columns, empty ones as NULL, and decode them."""

import msgspec

from app.state.policies import ANY_KEY, ANY_PROJECT, KeyPolicy, ProjectPolicy

_key_policies = msgspec.json.Decoder(KeyPolicy)
_project_policies = msgspec.json.Decoder(ProjectPolicy)
_tags = msgspec.json.Decoder(tuple[str, ...])


def packed(policy: KeyPolicy | ProjectPolicy) -> bytes | None:
    """Encode a policy; None for one that limits nothing."""
    return None if policy in (ANY_KEY, ANY_PROJECT) else msgspec.json.encode(policy)


def packed_tags(tags: tuple[str, ...]) -> bytes | None:
    """Encode tags; None for none."""
    return msgspec.json.encode(tags) if tags else None


def key_policy(column: bytes | None) -> KeyPolicy:
    """Decode a key's policy. Raises msgspec.DecodeError for one of a newer version, so that the key allows nothing."""
    return ANY_KEY if column is None else _key_policies.decode(column)


def project_policy(column: bytes | None) -> ProjectPolicy:
    """Decode a project's policy; raises as `key_policy` does."""
    return ANY_PROJECT if column is None else _project_policies.decode(column)


def tags(column: bytes | None) -> tuple[str, ...]:
    """Decode a key's tags."""
    return () if column is None else _tags.decode(column)
