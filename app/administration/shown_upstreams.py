"""What administrators are shown of upstreams, as JSON members: never a key or its sealed form."""

from dataclasses import asdict
from typing import Any

from app.administration.upstreams import AccountView, UpstreamView
from app.settings_upstream import UpstreamSettings
from app.state.health import Control
from app.state.upstreams import StoredKey
from app.upstream.attempt import TestResult


def upstream(record: UpstreamView) -> dict[str, Any]:
    """An upstream with its accounts, as the process that was asked knows them. `version` is null for the config's."""
    members = upstream_settings(record.settings, record.version)
    return {**members, "source": record.source, "accounts": [account(each) for each in record.accounts]}


def upstream_settings(record: UpstreamSettings, version: int | None) -> dict[str, Any]:
    """What an operator says of an upstream, without its keys."""
    return {"object": "upstream", **record.model_dump(mode="json", exclude={"keys"}), "version": version}


def account(record: AccountView) -> dict[str, Any]:
    """One key of an upstream and how it does; `key_id` and `hint` are of a key that is in the database."""
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
    """A key of an upstream that is in the database, and its account; never the key."""
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
    """That an upstream is gone."""
    return {"object": "upstream.deleted", "name": name, "deleted": True}


def deleted_key(key_id: str) -> dict[str, Any]:
    """That a key of an upstream is gone."""
    return {"object": "upstream_key.deleted", "id": key_id, "deleted": True}


def controlled(name: str, control: Control) -> dict[str, Any]:
    """What was made of an account."""
    return {"object": "account", "name": name, "control": control}


def test_result(name: str, record: TestResult) -> dict[str, Any]:
    """What upstream said to an account's key."""
    return {"object": "account.test", "account": name, **asdict(record)}
