"""The bodies, queries and answers of /admin/v1 as JSON Schemas, from the forms and records of the code."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args

import msgspec
from pydantic import BaseModel

from app.administration.views.resources import USAGE_COLUMNS
from app.api.admin import keys, projects
from app.api.openapi.object_schemas import deleted, page
from app.api.openapi.operation import Parameter, Schema, described, nullable, object_with, one_of, ref
from app.settings.upstreams import ChatProfile, KeySettings, UpstreamSettings
from app.state.account_conditions import AccountState, Condition, Control
from app.state.audit import AuditRecord
from app.state.policies import KeyPolicy, ProjectPolicy
from app.state.records import ApiKey, Project, TokenUsage
from app.state.upstreams import StoredKey
from app.state.usage import UsageEntry, UsageSum
from app.upstream.call.attempt import TestResult

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer"}
_REF = "#/components/schemas/{name}"
_VERSION = "The version that the editor saw. Another one by now is a 409."
_MEMBERS: Mapping[str, str] = MappingProxyType(
    {
        "name": "1 to 100 printable characters.",
        "project_id": "The project that the key belongs to.",
        "owner": "The person or service that has the key.",
        "tags": "Up to 16 labels.",
        "expires_at": "Unix seconds, in the future; null for never.",
        "retention_days": "How long responses are kept, 1 to 36,500 days; null for the setting's.",
        "conversation_days": "How long conversations are kept after their last change; null for as long as responses.",
        "policy": "Replaces the whole policy.",
        "version": _VERSION,
        "overlap_seconds": "For how long the key before works as well: 0 to 2,592,000.",
    }
)


def components() -> dict[str, Schema]:
    """Schemas by name."""
    return {
        "Nothing": described(object_with({}), "Nothing is to be said. No body at all will do."),
        **_policies(),
        "NewProject": _form(projects.NewProject, "ProjectPolicy"),
        "ProjectEdit": _form(projects.ProjectEdit, "ProjectPolicy"),
        "Project": _project(),
        "ProjectList": page(ref("Project")),
        "ProjectErasure": object_with({"id": _TEXT, "object": {"const": "project.erasure"}}),
        "NewKey": _form(keys.NewKey, "KeyPolicy"),
        "KeyEdit": _form(keys.KeyEdit, "KeyPolicy"),
        "KeyRotation": _form(keys.Rotation, ""),
        "ApiKey": _key(),
        "ShownApiKey": _key(key=described(_TEXT, "The key itself, in this answer alone.")),
        "ApiKeyList": page(ref("ApiKey")),
        **_upstreams(),
        "Account": _account(),
        "AccountControl": object_with(
            {"object": {"const": "account"}, "name": _TEXT, "control": {"enum": [*get_args(Control)]}}
        ),
        "AccountTest": _told(TestResult, object="account.test", account=_TEXT),
        "UsageSum": _sum(),
        "UsageSumList": page(ref("UsageSum"), cursor={"type": "null"}),
        "UsageEntry": _entry(),
        "UsageEntryList": page(ref("UsageEntry")),
        "Setting": object_with(
            {
                "object": {"const": "setting"},
                "name": described(_TEXT, "Its name in the config file."),
                "value": {"description": "`***` for a secret that is set."},
                "source": described(_TEXT, "The flag, variable or file that gave it, or `default`."),
            }
        ),
        "SettingList": page(ref("Setting"), cursor={"type": "null"}),
        "AuditRecord": _told(AuditRecord, object="audit_record", details={"type": "object"}),
        "AuditRecordList": page(ref("AuditRecord")),
    }


def query_of(form: type[BaseModel], words: Mapping[str, str]) -> tuple[Parameter, ...]:
    """The parameters of a query in this form, each in these words."""
    found = _plain(form.model_json_schema())["properties"]
    return tuple(Parameter(name, _without_null(schema), words[name]) for name, schema in found.items())


def _without_null(schema: Schema) -> Schema:
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    return branches[0] if branches else schema


def _plain(schema: Any) -> Any:
    """A generated schema without the titles, defaults and notes that say nothing of the API."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _plain(each) for name, each in schema.items() if name not in {"title", "default", "$defs"}}
    if "properties" in schema:
        # A member of such a name is none of those notes.
        kept["properties"] = {name: _plain(each) for name, each in schema["properties"].items()}
        kept.pop("description", None)
    return kept


def _form(form: type[BaseModel], policy: str) -> Schema:
    schema = _plain(form.model_json_schema())
    for name, member in schema["properties"].items():
        told = ref(policy) if name == "policy" else member
        schema["properties"][name] = described(told, _MEMBERS[name])
    found: Schema = schema
    return found


def _policies() -> dict[str, Schema]:
    _, found = msgspec.json.schema_components((KeyPolicy, ProjectPolicy), ref_template=_REF)
    return {name: {**_plain(schema), "description": _first_line(schema)} for name, schema in found.items()}


def _first_line(schema: Mapping[str, Any]) -> str:
    return re.split(r"\n\s*\n", schema["description"])[0]


def _members(kind: type, names: Iterable[str] | None = None) -> dict[str, Schema]:
    """The members of a record's type, by name: these or all."""
    _, found = msgspec.json.schema_components((kind,), ref_template=_REF)
    properties = _plain(found[kind.__name__])["properties"]
    return {name: properties[name] for name in (properties if names is None else names)}


def _told(kind: type, *names: str, object: str, **others: Schema) -> Schema:  # noqa: A002 - the member's own name
    return object_with({"object": {"const": object}, **_members(kind, names or None), **others})


def _project() -> Schema:
    return _told(Project, object="project", policy=ref("ProjectPolicy"))


def _key(**others: Schema) -> Schema:
    names = ("id", "project_id", "name", "hint", "owner", "tags", "created_at", "expires_at", "blocked_at")
    return _told(
        ApiKey,
        *names,
        *("revoked_at", "last_used_at", "granted_by", "version"),
        object="api_key",
        policy=ref("KeyPolicy"),
        state={"enum": ["active", "blocked", "expired", "revoked"]},
        **others,
    )


def _upstreams() -> dict[str, Schema]:
    schema = _plain(UpstreamSettings.model_json_schema(ref_template=_REF.format(name="{model}")))
    members = {name: member for name, member in schema["properties"].items() if name != "keys"}
    new = {**schema, "properties": members, "required": ["name", "base_url"]}
    changeable = {name: member for name, member in members.items() if name != "name"}
    edit = {
        **schema,
        "properties": {"version": described(_COUNT, _VERSION), **changeable},
        "required": ["version"],
    }
    shown = {"object": {"const": "upstream"}, **members}
    key = _plain(KeySettings.model_json_schema())
    key["properties"]["secret"]["description"] = "The key itself. It is kept encrypted, and never shown."
    listed = {
        **shown,
        "version": described(nullable(_COUNT), "Null for one of the configuration."),
        "source": {"enum": ["config", "database"]},
        "accounts": {"type": "array", "items": ref("Account")},
    }
    return {
        "NewUpstream": new,
        "UpstreamEdit": edit,
        "UpstreamSettings": object_with({**shown, "version": _COUNT}),
        "Upstream": object_with(listed),
        "UpstreamList": page(ref("Upstream"), cursor={"type": "null"}),
        "ChatProfile": _plain(ChatProfile.model_json_schema()),
        "DeletedUpstream": deleted("upstream.deleted", "name"),
        "NewUpstreamKey": key,
        "UpstreamKey": _told(
            StoredKey, "id", "upstream", "account", "name", "hint", "created_at", object="upstream_key"
        ),
        "DeletedUpstreamKey": deleted("upstream_key.deleted"),
    }


def _account() -> Schema:
    rest = described({"type": "number"}, "Seconds until it is used again.")
    model = object_with({**_members(Condition, ("model", "state", "reason")), "rest_seconds": rest})
    names = ("name", "key_name", "tier", "weight", "state", "reason", "in_flight")
    return _told(
        AccountState,
        *names,
        *("remaining_requests", "remaining_tokens"),
        object="account",
        key_id=nullable(_TEXT),
        hint=described(nullable(_TEXT), "The end of a key that is in the database."),
        source={"enum": ["config", "database"]},
        rest_seconds=rest,
        models={"type": "array", "items": model},
    )


def _sum() -> Schema:
    cost = described({"type": ["number", "null"]}, "US dollars of the calls whose price is known.")
    members = _members(UsageSum, [name for name in USAGE_COLUMNS if name != "cost_usd"])
    return object_with({name: cost if name == "cost_usd" else members[name] for name in USAGE_COLUMNS})


def _entry() -> Schema:
    names = ("at", "request_id", "project_id", "api_key_id", "endpoint", "model", "model_served", "account")
    told = ("attempts", "affinity", "status", "error_code", "response_id", "response_status", "service_tier")
    counts = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    flags = ("stream", "background", "estimated")
    return _told(
        UsageEntry,
        *names,
        *told,
        *("first_byte_ms", "latency_ms"),
        object="usage_entry",
        id=_TEXT,
        **{
            name: one_of(schema, {"type": "null"})
            for name, schema in _members(TokenUsage, (*counts, "web_searches", "file_searches")).items()
        },
        **{name: {"type": "boolean"} for name in flags},
        cost_usd=described({"type": ["number", "null"]}, "US dollars; null where the price is not known."),
    )
