"""What a project or an API key may do, and how much of it: as it is kept and as administrators write it. Pure."""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

import msgspec

Scope: TypeAlias = Literal["responses", "conversations", "models", "usage", "admin:read", "admin"]
Period: TypeAlias = Literal["day", "week", "month"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
CLIENT_SCOPES: tuple[Scope, ...] = ("responses", "conversations", "models", "usage")
"""What a key may do unless its maker says otherwise: everything under /v1, nothing under /admin."""


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may be spent in a period, which begins at 00:00 UTC: of a day, of a Monday, of the first of a month."""

    period: Period
    tokens: int | None = None
    usd: float | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much; None is without limit. `max_output_tokens` is of one response."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    max_output_tokens: int | None = None
    budgets: tuple[Budget, ...] = ()


class ProjectPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all keys of a project may do together. `models` are globs of model names."""

    models: tuple[str, ...] = ("*",)
    limits: Limits = Limits()


class KeyPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one key may do, within its project's policy. `addresses` are networks (10.0.0.0/8); none is everywhere."""

    scopes: tuple[Scope, ...] = CLIENT_SCOPES
    models: tuple[str, ...] = ("*",)
    addresses: tuple[str, ...] = ()
    limits: Limits = Limits()


ANY_PROJECT = ProjectPolicy()
ANY_KEY = KeyPolicy()


def has_scope(scopes: Collection[Scope], scope: Scope) -> bool:
    """Whether these scopes cover this one: who administers may also look."""
    return scope in scopes or (scope == "admin:read" and "admin" in scopes)


def administers(scopes: Collection[Scope]) -> bool:
    """Whether these scopes let a key into /admin, be it to look."""
    return has_scope(scopes, "admin:read")


def allows_model(globs: tuple[str, ...], model: str) -> bool:
    """Whether the model matches one of these globs.

    So does each of several with commas between: LiteLLM takes them for a list.
    """
    if "*" in globs:
        return True
    return all(any(fnmatchcase(name.strip(), glob) for glob in globs) for name in model.split(","))
