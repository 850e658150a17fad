"""Render records for administrators as JSON members, without secrets, hashes or whole keys."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import msgspec
import orjson

from app.administration.secrets import SecretUse
from app.administration.settings import EffectiveSetting
from app.state.audit import AuditRecord
from app.state.policies import KeyPolicy, Limits, ProjectPolicy
from app.state.records import ApiKey, Project, TokenUsage
from app.state.usage import RecordedEntry, UsageSum

_NANO = 1_000_000_000


def page(records: Sequence[Mapping[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Render a page of a list, or a whole list."""
    return {
        "object": "list",
        "data": records,
        "first_id": records[0].get("id") if records else None,
        "last_id": records[-1].get("id") if records else None,
        "has_more": has_more,
    }


def project(record: Project) -> dict[str, Any]:
    """Render a project. `retention_days` null is the setting's default; `erasing_at` is set during its erasure."""
    return {
        "id": record.id,
        "object": "project",
        "name": record.name,
        "retention_days": record.retention_days,
        "conversation_days": record.conversation_days,
        "policy": policy(record.policy),
        "created_at": record.created_at,
        "erasing_at": record.erasing_at,
        "version": record.version,
    }


def api_key(record: ApiKey, now: int) -> dict[str, Any]:
    """Render an API key with its state at `now`; `hint` is its last four characters."""
    return {
        "id": record.id,
        "object": "api_key",
        "project_id": record.project_id,
        "name": record.name,
        "hint": record.hint,
        "state": key_state(record, now),
        "owner": record.owner,
        "tags": record.tags,
        "policy": policy(record.policy),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "blocked_at": record.blocked_at,
        "revoked_at": record.revoked_at,
        "last_used_at": record.last_used_at,
        "granted_by": record.granted_by,
        "version": record.version,
    }


def secret(record: SecretUse) -> dict[str, Any]:
    """Render a master secret by its fingerprint, with its uses."""
    return {"id": record.fingerprint, "object": "master_secret", **asdict(record)}


def key_state(record: ApiKey, now: int) -> Literal["active", "revoked", "expired", "blocked"]:
    """Return the key's state at `now`: active, or why it does not work."""
    if record.revoked_at is not None:
        return "revoked"
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    return "active" if record.blocked_at is None else "blocked"


def policy(record: ProjectPolicy | KeyPolicy) -> dict[str, Any]:
    """Render every member of a policy, with null for no limit."""
    return {**msgspec.structs.asdict(record), "limits": limits(record.limits)}


def limits(record: Limits) -> dict[str, Any]:
    """Render every limit, with null for none."""
    budgets = [msgspec.structs.asdict(budget) for budget in record.budgets]
    return {**msgspec.structs.asdict(record), "budgets": budgets}


def audit_record(record: AuditRecord) -> dict[str, Any]:
    """Render a record of the audit log: who did what, when, from where."""
    return {
        "id": record.id,
        "object": "audit_record",
        "at": record.at,
        "actor": record.actor,
        "address": record.address,
        "action": record.action,
        "subject": record.subject,
        "details": orjson.Fragment(record.details),
    }


def setting(record: EffectiveSetting) -> dict[str, Any]:
    """Render a setting by its name in the config file, with its source: a flag, a variable, the file, "default"."""
    return {"object": "setting", "name": record.name, "value": record.value, "source": record.source}


def usage_entry(recorded: RecordedEntry) -> dict[str, Any]:
    """Render the usage entry of one call: its caller, usage and outcome. Unknown members are null.

    `estimated`: upstream did not report the usage. A `cost_usd` of null beside tokens: the model's price is not known.
    """
    entry = recorded.entry
    return {
        "id": str(recorded.key),
        "object": "usage_entry",
        "at": entry.at,
        "request_id": entry.request_id,
        "project_id": entry.project_id,
        "api_key_id": entry.api_key_id,
        "endpoint": entry.endpoint,
        "model": entry.model,
        "model_served": entry.model_served,
        "account": entry.account,
        "attempts": entry.attempts,
        "affinity": entry.affinity,
        "status": entry.status,
        "error_code": entry.error_code,
        "response_id": entry.response_id,
        "response_status": entry.response_status,
        "stream": entry.is_stream,
        "background": entry.is_background,
        **_tokens(entry.usage),
        "estimated": entry.is_estimated,
        "service_tier": entry.service_tier,
        "cost_usd": _usd(entry.cost_nano),
        "first_byte_ms": entry.first_byte_ms,
        "latency_ms": entry.latency_ms,
    }


def usage_sum(record: UsageSum) -> dict[str, Any]:
    """Render the usage of a group of calls; members that were not grouped by are null."""
    unknown = record.cost_nano == 0 and record.unpriced_requests > 0
    members = {**asdict(record), "cost_usd": None if unknown else _usd(record.cost_nano)}
    return {name: members[name] for name in USAGE_COLUMNS}


USAGE_COLUMNS = (
    "begins",
    "project_id",
    "api_key_id",
    "model",
    "upstream",
    "requests",
    "errors",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
    "kept_requests",
    "kept_input_tokens",
    "kept_cached_tokens",
    "moved_requests",
    "moved_input_tokens",
    "moved_cached_tokens",
    "cache_write_tokens",
    "estimated_requests",
)
"""The members of a sum, and the columns of the CSV, in this order."""


def _tokens(usage: TokenUsage | None) -> dict[str, int | None]:
    names = (
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "web_searches",
        "file_searches",
    )
    return {name: None if usage is None else getattr(usage, name) for name in names}


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / _NANO
