"""Render upstreams, their keys and accounts as JSON members, without keys or their encrypted form."""

from dataclasses import asdict
from typing import Any

from app.administration.upstreams import AccountView, UpstreamView
from app.settings.upstreams import UpstreamSettings
from app.state.account_conditions import Control
from app.state.upstreams import StoredKey
from app.upstream.call.attempt import TestResult


def upstream(record: UpstreamView) -> dict[str, Any]:
    """Render an upstream with its accounts, as this process knows them. `version` is null for the config's."""
    members = upstream_settings(record.settings, record.version)
    return {**members, "source": record.source, "accounts": [account(each) for each in record.accounts]}


def upstream_settings(record: UpstreamSettings, version: int | None) -> dict[str, Any]:
    """Render the settings of an upstream, without its keys."""
    return {"object": "upstream", **record.model_dump(mode="json", exclude={"keys"}), "version": version}


def account(record: AccountView) -> dict[str, Any]:
    """Render an account with its health; `key_id` and `hint` are set for a key of the database."""
    state = record.state
    return {
        "object": "account",
        "name": state.name,
        "key_name": state.key_name,
        "key_id": record.key_id,
        "hint": record.hint,
        "source": record.source,
        "tier": state.tier,
        "weight": state.weight,
        "state": state.state,
        "rest_seconds": round(state.rest, 3),
        "reason": state.reason,
        "models": [
            {
                "model": condition.model,
                "state": condition.state,
                "rest_seconds": round(condition.rest, 3),
                "reason": condition.reason,
            }
            for condition in state.conditions
        ],
        "in_flight": state.in_flight,
        "remaining_requests": state.remaining_requests,
        "remaining_tokens": state.remaining_tokens,
    }


def upstream_key(record: StoredKey) -> dict[str, Any]:
    """Render an upstream key of the database with its account, without the key itself."""
    return {
        "object": "upstream_key",
        "id": record.id,
        "upstream": record.upstream,
        "account": record.account,
        "name": record.name,
        "hint": record.hint,
        "created_at": record.created_at,
    }


def deleted_upstream(name: str) -> dict[str, Any]:
    """Render the confirmation that an upstream is deleted."""
    return {"object": "upstream.deleted", "name": name, "deleted": True}


def deleted_key(key_id: str) -> dict[str, Any]:
    """Render the confirmation that an upstream key is deleted."""
    return {"object": "upstream_key.deleted", "id": key_id, "deleted": True}


def controlled(name: str, control: Control) -> dict[str, Any]:
    """Render the new control state of an account."""
    return {"object": "account", "name": name, "control": control}


def test_result(name: str, record: TestResult) -> dict[str, Any]:
    """Render the result of an account's test."""
    return {"object": "account.test", "account": name, **asdict(record)}
