"""Define what a project or an API key may do, and how much of it: as stored and as administrators write it. Pure."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

import msgspec

Scope: TypeAlias = Literal[
    "responses",
    "conversations",
    "models",
    "usage",
    "chat",
    "embeddings",
    "completions",
    "moderations",
    "admin:read",
    "admin",
]
Period: TypeAlias = Literal["day", "week", "month"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
STORED_SCOPES: tuple[Scope, ...] = ("responses", "conversations", "models", "usage")
"""The scopes of a key that is stored without any: a surface that is new opens to no key that was there before it."""

CLIENT_SCOPES: tuple[Scope, ...] = (*STORED_SCOPES, "chat", "embeddings")
"""The default scopes of a new key: what is served under /v1 by default, nothing under /admin."""


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limit what may be spent in a period from 00:00 UTC: of the day, of the Monday, of the first of the month."""

    period: Period
    tokens: int | None = None
    usd: float | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limit requests, tokens, streams and money; None is without limit. `max_output_tokens` is of one response."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    max_output_tokens: int | None = None
    budgets: tuple[Budget, ...] = ()


class ProjectPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limit what all keys of a project may do together. `models` are globs of model names."""

    models: tuple[str, ...] = ("*",)
    limits: Limits = Limits()


class KeyPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limit one key, within its project's policy. `addresses` are networks (10.0.0.0/8); none is everywhere."""

    scopes: tuple[Scope, ...] = STORED_SCOPES
    models: tuple[str, ...] = ("*",)
    addresses: tuple[str, ...] = ()
    limits: Limits = Limits()


ANY_PROJECT = ProjectPolicy()
ANY_KEY = KeyPolicy()
NEW_KEY = KeyPolicy(scopes=CLIENT_SCOPES)
"""The policy of a new key for which nothing else is said."""


def has_scope(scopes: Collection[Scope], scope: Scope) -> bool:
    """Tell whether these scopes cover this one: administrators may also read."""
    return scope in scopes or (scope == "admin:read" and "admin" in scopes)


def administers(scopes: Collection[Scope]) -> bool:
    """Tell whether these scopes let a key into /admin, if only to read."""
    return has_scope(scopes, "admin:read")


def allows_model(globs: tuple[str, ...], model: str) -> bool:
    """Tell whether the model matches one of these globs.

    Each of several names with commas between must match: LiteLLM takes them for a list.
    """
    if "*" in globs:
        return True
    return all(any(fnmatchcase(name.strip(), glob) for glob in globs) for name in model.split(","))
