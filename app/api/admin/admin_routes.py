"""Declare all of /admin/v1 as one table, and add its routes to a router."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Response

from app.api.admin import audit, keys, projects, settings, upstreams, usage
from app.api.dependencies import administrator

ADMIN: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = (
    ("GET", "/projects", projects.list_projects),
    ("POST", "/projects", projects.create_project),
    ("GET", "/projects/{project_id}", projects.retrieve_project),
    ("PATCH", "/projects/{project_id}", projects.update_project),
    ("DELETE", "/projects/{project_id}", projects.erase_project),
    ("GET", "/keys", keys.list_keys),
    ("POST", "/keys", keys.create_key),
    ("GET", "/keys/{key_id}", keys.retrieve_key),
    ("PATCH", "/keys/{key_id}", keys.update_key),
    ("POST", "/keys/{key_id}/rotate", keys.rotate_key),
    ("POST", "/keys/{key_id}/block", keys.block_key),
    ("POST", "/keys/{key_id}/unblock", keys.unblock_key),
    ("POST", "/keys/{key_id}/revoke", keys.revoke_key),
    ("GET", "/upstreams", upstreams.list_upstreams),
    ("POST", "/upstreams", upstreams.create_upstream),
    ("PATCH", "/upstreams/{name}", upstreams.update_upstream),
    ("DELETE", "/upstreams/{name}", upstreams.delete_upstream),
    ("POST", "/upstreams/{name}/keys", upstreams.add_upstream_key),
    ("DELETE", "/upstreams/{name}/keys/{key_id}", upstreams.remove_upstream_key),
    # An account's name is its upstream's and its key's, with a slash between them.
    ("POST", "/accounts/{account:path}/test", upstreams.try_account),
    ("POST", "/accounts/{account:path}/enable", upstreams.enable_account),
    ("POST", "/accounts/{account:path}/drain", upstreams.drain_account),
    ("POST", "/accounts/{account:path}/disable", upstreams.disable_account),
    ("GET", "/usage", usage.summarize_usage),
    ("GET", "/usage/entries", usage.list_entries),
    ("GET", "/settings", settings.list_settings),
    ("GET", "/audit", audit.list_audit_records),
)


def add_admin_routes(router: APIRouter) -> None:
    """Add every route under /admin/v1. Invariant: each route authenticates an administrator as a part of itself."""
    for method, path, endpoint in ADMIN:
        router.add_api_route(
            f"/admin/v1{path}", endpoint, methods=[method], tags=["admin"], dependencies=[Depends(administrator)]
        )
