"""The upstreams over HTTP, with their keys and accounts. An upstream's key goes in, and never comes out again."""

from fastapi import Request, Response

from app.administration import shown, shown_upstreams
from app.administration.actor import Actor
from app.api.admin.forms import Open, OpenEdit, read_form, read_nothing
from app.api.admin.pages import answer
from app.api.services import Administrator, Services, ServicesOf
from app.state.health import Control


async def list_upstreams(services: ServicesOf) -> Response:
    """List all upstreams, with their accounts and the health of each."""
    found = await services.upstreams.list()
    return answer(shown.page([shown_upstreams.upstream(each) for each in found]))


async def create_upstream(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create an upstream. It serves on every replica within two seconds."""
    form = await read_form(Open, request, services.intake)
    made = await services.upstreams.create(actor, form.given())
    return answer(shown_upstreams.upstream_settings(*made), status=201)


async def update_upstream(name: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change an upstream of the database; what is left out stays as it is."""
    form = await read_form(OpenEdit, request, services.intake)
    changed = await services.upstreams.update(actor, name, form.changes(), version=form.version)
    return answer(shown_upstreams.upstream_settings(*changed))


async def delete_upstream(name: str, actor: Administrator, services: ServicesOf) -> Response:
    """Delete an upstream of the database with its keys; calls on it go on."""
    await services.upstreams.delete(actor, name)
    return answer(shown_upstreams.deleted_upstream(name))


async def add_upstream_key(name: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Add a key to any upstream; it is kept encrypted."""
    form = await read_form(Open, request, services.intake)
    return answer(shown_upstreams.upstream_key(await services.upstreams.add_key(actor, name, form.given())), status=201)


async def remove_upstream_key(name: str, key_id: str, actor: Administrator, services: ServicesOf) -> Response:
    """Remove a key of the database; calls with it go on."""
    await services.upstreams.remove_key(actor, name, key_id)
    return answer(shown_upstreams.deleted_key(key_id))


async def try_account(account: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Ask upstream whether it takes the account's key now."""
    await read_nothing(request, services.intake)
    return answer(shown_upstreams.test_result(account, await services.upstreams.test(actor, account)))


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
    await read_nothing(request, services.intake)
    await services.upstreams.control(actor, account, state)
    return answer(shown_upstreams.controlled(account, state))
