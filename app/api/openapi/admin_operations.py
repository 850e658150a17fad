"""Describe each call under /admin/v1 for the OpenAPI document, by the name of the call."""

from collections.abc import Mapping
from types import MappingProxyType

from app.api.admin.audit import AuditQuery
from app.api.admin.forms import PageQuery
from app.api.admin.keys import KeysQuery
from app.api.admin.usage import EntriesQuery, SumsQuery
from app.api.openapi.admin_schemas import query_of
from app.api.openapi.error_answers import OF_BODIES
from app.api.openapi.operation import Answer, Operation, json, ref

_QUERY: Mapping[str, str] = MappingProxyType(
    {
        "after": "The `last_id` of the page before.",
        "limit": "Most entries of the page; 20 if unset.",
        "project": "Only those of the project with this id.",
        "key": "Only those of the API key with this id.",
        "model": "Only calls of this model.",
        "upstream": "Only calls that this upstream served.",
        "subject": "Only those about this id or name.",
        "since": "Calls that began at this time or later: unix seconds, 30 days before `until` if unset.",
        "until": "Calls that began before this time: unix seconds, now if unset.",
        "group_by": "A sum for each combination of these, with commas between; one sum of all if unset.",
        "format": "`csv` for a table, which `Accept: text/csv` asks for too. The columns are those of a `UsageSum`.",
    }
)
_KEY = json("The key, without its secret.", ref("ApiKey"))
_SHOWN_KEY = json("The key with its secret in `key`, this once.", ref("ShownApiKey"))
_PROJECT = json("The project.", ref("Project"))
_UPSTREAM = json("The upstream, without its keys.", ref("UpstreamSettings"))
_CONTROL = json("The account, and what was made of it.", ref("AccountControl"))
# Each change is refused where its administrator's key was changed meanwhile.
_CHANGE = (*OF_BODIES, 404, 409)

ADMIN_OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "list_projects": Operation(
            parameters=query_of(PageQuery, _QUERY),
            answers={200: json("A page of projects.", ref("ProjectList"))},
            errors=(400,),
        ),
        "create_project": Operation(body=ref("NewProject"), answers={201: _PROJECT}, errors=(*OF_BODIES, 409)),
        "retrieve_project": Operation(answers={200: _PROJECT}, errors=(404,)),
        "update_project": Operation(body=ref("ProjectEdit"), answers={200: _PROJECT}, errors=_CHANGE),
        "erase_project": Operation(
            answers={202: json("The erasure has begun.", ref("ProjectErasure"))}, errors=(404, 409)
        ),
        "list_keys": Operation(
            parameters=query_of(KeysQuery, _QUERY),
            answers={200: json("A page of keys.", ref("ApiKeyList"))},
            errors=(400,),
        ),
        "create_key": Operation(body=ref("NewKey"), answers={201: _SHOWN_KEY}, errors=_CHANGE),
        "retrieve_key": Operation(answers={200: _KEY}, errors=(404,)),
        "update_key": Operation(body=ref("KeyEdit"), answers={200: _KEY}, errors=_CHANGE),
        "rotate_key": Operation(body=ref("KeyRotation"), answers={200: _SHOWN_KEY}, errors=_CHANGE),
        "block_key": Operation(body=ref("Nothing"), needs_body=False, answers={200: _KEY}, errors=_CHANGE),
        "unblock_key": Operation(body=ref("Nothing"), needs_body=False, answers={200: _KEY}, errors=_CHANGE),
        "revoke_key": Operation(body=ref("Nothing"), needs_body=False, answers={200: _KEY}, errors=_CHANGE),
        "list_upstreams": Operation(answers={200: json("All upstreams.", ref("UpstreamList"))}),
        "create_upstream": Operation(body=ref("NewUpstream"), answers={201: _UPSTREAM}, errors=(*OF_BODIES, 409)),
        "update_upstream": Operation(body=ref("UpstreamEdit"), answers={200: _UPSTREAM}, errors=_CHANGE),
        "delete_upstream": Operation(answers={200: json("It is gone.", ref("DeletedUpstream"))}, errors=(404, 409)),
        "add_upstream_key": Operation(
            body=ref("NewUpstreamKey"),
            answers={201: json("The key, without its secret.", ref("UpstreamKey"))},
            errors=_CHANGE,
        ),
        "remove_upstream_key": Operation(
            answers={200: json("It is gone.", ref("DeletedUpstreamKey"))}, errors=(404, 409)
        ),
        "try_account": Operation(
            body=ref("Nothing"),
            needs_body=False,
            answers={200: json("What upstream said.", ref("AccountTest"))},
            errors=(*OF_BODIES, 404),
        ),
        "enable_account": Operation(body=ref("Nothing"), needs_body=False, answers={200: _CONTROL}, errors=_CHANGE),
        "drain_account": Operation(body=ref("Nothing"), needs_body=False, answers={200: _CONTROL}, errors=_CHANGE),
        "disable_account": Operation(body=ref("Nothing"), needs_body=False, answers={200: _CONTROL}, errors=_CHANGE),
        "summarize_usage": Operation(
            parameters=query_of(SumsQuery, _QUERY),
            answers={
                200: Answer(
                    "The sums.",
                    {"application/json": ref("UsageSumList"), "text/csv": {"type": "string"}},
                )
            },
            errors=(400,),
        ),
        "list_entries": Operation(
            parameters=query_of(EntriesQuery, _QUERY),
            answers={200: json("A page of calls.", ref("UsageEntryList"))},
            errors=(400,),
        ),
        "list_settings": Operation(answers={200: json("All settings.", ref("SettingList"))}),
        "list_audit_records": Operation(
            parameters=query_of(AuditQuery, _QUERY),
            answers={200: json("A page of records.", ref("AuditRecordList"))},
            errors=(400,),
        ),
    }
)
