"""Serve /admin/v1/upstreams and /admin/v1/accounts. An upstream's key is accepted, and never returned."""

from fastapi import Request, Response

from app.administration.actor import Actor
from app.administration.views import resources, upstream_resources
from app.api.admin.answers import answer
from app.api.admin.forms import Open, OpenEdit, read_form, read_nothing
from app.api.dependencies import Administrator
from app.api.services import Services, ServicesOf
from app.state.account_conditions import Control


async def list_upstreams(services: ServicesOf) -> Response:
    """List all upstreams, with their accounts and the health of each."""
    found = await services.upstreams.list()
    return answer(resources.page([upstream_resources.upstream(each) for each in found]))


async def create_upstream(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create an upstream. It serves on every replica within two seconds."""
    form = await read_form(Open, request, services.body_reader)
    made = await services.upstreams.create(actor, form.given())
    return answer(upstream_resources.upstream_settings(*made), status=201)


async def update_upstream(name: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change an upstream of the database; what is left out stays as it is."""
    form = await read_form(OpenEdit, request, services.body_reader)
    changed = await services.upstreams.update(actor, name, form.changes(), version=form.version)
    return answer(upstream_resources.upstream_settings(*changed))


async def delete_upstream(name: str, actor: Administrator, services: ServicesOf) -> Response:
    """Delete an upstream of the database with its keys; calls on it go on."""
    await services.upstreams.delete(actor, name)
    return answer(upstream_resources.deleted_upstream(name))


async def add_upstream_key(name: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Add a key to any upstream; it is kept encrypted."""
    form = await read_form(Open, request, services.body_reader)
    return answer(
        upstream_resources.upstream_key(await services.upstreams.add_key(actor, name, form.given())), status=201
    )


async def remove_upstream_key(name: str, key_id: str, actor: Administrator, services: ServicesOf) -> Response:
    """Remove a key of the database; calls with it go on."""
    await services.upstreams.remove_key(actor, name, key_id)
    return answer(upstream_resources.deleted_key(key_id))


async def try_account(account: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Ask upstream whether it takes the account's key now."""
    await read_nothing(request, services.body_reader)
    return answer(upstream_resources.test_result(account, await services.upstreams.test(actor, account)))


async def enable_account(account: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Take an account into service again."""
    return await _control(account, "enabled", request, actor, services)


async def drain_account(account: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Give an account nothing new, but what only it can go on with."""
    return await _control(account, "draining", request, actor, services)


async def disable_account(account: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Give an account nothing any more; calls on it go on."""
    return await _control(account, "disabled", request, actor, services)


async def _control(account: str, state: Control, request: Request, actor: Actor, services: Services) -> Response:
    await read_nothing(request, services.body_reader)
    await services.upstreams.control(actor, account, state)
    return answer(upstream_resources.controlled(account, state))
