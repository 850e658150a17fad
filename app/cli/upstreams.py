"""Run `antiphon upstreams`: administer upstreams and their keys. A key is never an argument."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.console import (
    AsJson,
    Columns,
    administer,
    changes,
    member,
    operator,
    print_json,
    print_members,
    print_table,
    query,
)
from app.cli.secret_input import given_secret

if TYPE_CHECKING:
    from app.administration.actor import Actor
    from app.administration.upstreams import Upstreams
    from app.boot.installation import Installation
    from app.state.account_conditions import Control

T = TypeVar("T")

upstreams = typer.Typer(help="Upstreams, their keys and their accounts.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The upstream's name.")]
AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="As `upstreams list` shows it: main/1a2b3c4d5e6f.")]
Tier = Annotated[int | None, typer.Option(min=0, help="Used while none of a lower tier can be.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A glob of the models it serves; may be repeated.")]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", help="ASKED=ITS-OWN, two names of a model; may be repeated. `none` for none."),
]
Strip = Annotated[
    list[str] | None, typer.Option("--strip", help="A parameter it does not know; may be repeated. `none` for none.")
]
Api = Annotated[str | None, typer.Option(help="What it speaks: responses, or chat completions alone (chat).")]
State = Annotated[str | None, typer.Option(help="Who keeps chains: gateway or upstream.")]
Validation = Annotated[str | None, typer.Option(help="What requests are held to: openai or structural.")]
Endpoints = Annotated[
    list[str] | None, typer.Option("--endpoint", help="compact or input_tokens; may be repeated. `none` for neither.")
]

_COLUMNS: Columns = {
    "account": member("name"),
    "key": member("key_name"),
    "key id": member("key_id"),
    "state": member("state"),
    "rest": lambda row: f"{row['rest_seconds']:.0f} s" if row["rest_seconds"] else None,
    "reason": member("reason"),
    "tier": member("tier"),
    "weight": member("weight"),
    "source": member("source"),
    "base url": member("base_url"),
}


@upstreams.command("list")
def list_upstreams(*, as_json: AsJson = False) -> None:
    """List the upstreams with their accounts, and the health that running gateways noted in the database."""
    from app.administration.views import resources, upstream_resources

    async def run(service: "Upstreams") -> list[dict[str, Any]]:
        return [upstream_resources.upstream(each) for each in await service.list()]

    found = _query(run)
    if as_json:
        print_json(resources.page(found))
    else:
        accounts = [{**account, "base_url": each["base_url"]} for each in found for account in each["accounts"]]
        print_table(accounts, _COLUMNS)


@upstreams.command("add")
def add_upstream(
    *,
    name: Name,
    base_url: Annotated[str, typer.Option(help="URL that /responses is appended to.")],
    models: Models = None,
    aliases: Aliases = None,
    strip: Strip = None,
    tier: Tier = None,
    api: Api = None,
    state: State = None,
    validation: Validation = None,
    endpoints: Endpoints = None,
    as_json: AsJson = False,
) -> None:
    """Add an upstream to the database; its keys follow with `add-key`."""
    from app.administration.views import upstream_resources

    spec = _spec(
        base_url=base_url,
        models=models,
        aliases=aliases,
        strip=strip,
        tier=tier,
        api=api,
        state=state,
        validation=validation,
        endpoints=endpoints,
    )

    async def run(service: "Upstreams", actor: "Actor") -> dict[str, Any]:
        return upstream_resources.upstream_settings(*await service.create(actor, {"name": name, **spec}))

    print_members(_administer(run), as_json=as_json)


@upstreams.command("update")
def update_upstream(
    *,
    name: Name,
    base_url: Annotated[str | None, typer.Option(help="URL that /responses is appended to.")] = None,
    models: Models = None,
    aliases: Aliases = None,
    strip: Strip = None,
    tier: Tier = None,
    api: Api = None,
    state: State = None,
    validation: Validation = None,
    endpoints: Endpoints = None,
    as_json: AsJson = False,
) -> None:
    """Change an upstream of the database; what is not given stays as it is."""
    from app.administration.views import upstream_resources

    spec = _spec(
        base_url=base_url,
        models=models,
        aliases=aliases,
        strip=strip,
        tier=tier,
        api=api,
        state=state,
        validation=validation,
        endpoints=endpoints,
    )

    async def run(service: "Upstreams", actor: "Actor") -> dict[str, Any]:
        # An upstream of the configuration has no version, and is refused whatever is sent.
        version = next((each.version or 0 for each in await service.list() if each.settings.name == name), 0)
        return upstream_resources.upstream_settings(*await service.update(actor, name, spec, version=version))

    print_members(_administer(run), as_json=as_json)


@upstreams.command("remove")
def remove_upstream(*, name: Name, as_json: AsJson = False) -> None:
    """Remove an upstream of the database with its keys; calls on it go on."""
    from app.administration.views import upstream_resources

    async def run(service: "Upstreams", actor: "Actor") -> None:
        await service.delete(actor, name)

    _administer(run)
    _print_done(upstream_resources.deleted_upstream(name), f"{name} is removed.", as_json=as_json)


@upstreams.command("add-key")
def add_key(
    *,
    upstream: Name,
    name: Annotated[str | None, typer.Option(help="What the key is called.")] = None,
    from_env: Annotated[str | None, typer.Option(help="The environment variable that has the key.")] = None,
    from_file: Annotated[Path | None, typer.Option(help="The file that has the key.")] = None,
    weight: Annotated[float | None, typer.Option(help="Its share of the calls beside others of its tier.")] = None,
    tier: Tier = None,
    organization: Annotated[str | None, typer.Option(help="Sent as OpenAI-Organization.")] = None,
    project: Annotated[str | None, typer.Option(help="Sent as OpenAI-Project.")] = None,
    rpm: Annotated[int | None, typer.Option("--rpm", help="Calls begun in a minute, per process.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", help="Tokens used per minute, per process.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Calls in flight at once, per process.")] = None,
    quota_group: Annotated[str | None, typer.Option(help="Keys of a group share upstream's limit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a key to any upstream, read from standard input unless an option says otherwise. It is kept encrypted."""
    from app.administration.views import upstream_resources

    options = {"name": name, "weight": weight, "tier": tier, "organization": organization, "project": project}
    caps = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrency": concurrency}
    spec = changes({**options, **caps, "quota_group": quota_group}, {})
    secret = given_secret(from_env, from_file)

    async def run(service: "Upstreams", actor: "Actor") -> dict[str, Any]:
        return upstream_resources.upstream_key(await service.add_key(actor, upstream, {**spec, "secret": secret}))

    print_members(_administer(run), as_json=as_json)


@upstreams.command("remove-key")
def remove_key(
    *,
    upstream: Name,
    key_id: Annotated[str, typer.Argument(help="The key's id, as `upstreams list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a key of the database; calls with it go on."""
    from app.administration.views import upstream_resources

    async def run(service: "Upstreams", actor: "Actor") -> None:
        await service.remove_key(actor, upstream, key_id)

    _administer(run)
    _print_done(upstream_resources.deleted_key(key_id), f"{key_id} is removed.", as_json=as_json)


@upstreams.command("test")
def try_account(*, account: AccountName, as_json: AsJson = False) -> None:
    """Ask upstream, from here, whether it takes the account's key. The status is 1 when it does not."""
    from app.administration.views import upstream_resources

    async def run(service: "Upstreams") -> dict[str, Any]:
        return upstream_resources.test_result(account, await service.test(operator(), account))

    result = _query(run)
    print_members(result, as_json=as_json)
    if not result["ok"]:
        raise typer.Exit(1)


@upstreams.command("enable")
def enable_account(*, account: AccountName, as_json: AsJson = False) -> None:
    """Take an account into service again."""
    _control(account, "enabled", as_json=as_json)


@upstreams.command("drain")
def drain_account(*, account: AccountName, as_json: AsJson = False) -> None:
    """Give an account nothing new, but what only it can go on with."""
    _control(account, "draining", as_json=as_json)


@upstreams.command("disable")
def disable_account(*, account: AccountName, as_json: AsJson = False) -> None:
    """Give an account nothing any more; calls on it go on."""
    _control(account, "disabled", as_json=as_json)


def _control(account: str, state: "Control", *, as_json: bool) -> None:
    from app.administration.views import upstream_resources

    async def run(service: "Upstreams", actor: "Actor") -> None:
        await service.control(actor, account, state)

    _administer(run)
    _print_done(upstream_resources.controlled(account, state), f"{account} is {state}.", as_json=as_json)


def _administer(work: "Callable[[Upstreams, Actor], Awaitable[T]]") -> T:
    from app.cli.upstream_pool import upstreams_of

    async def run(installation: "Installation", actor: "Actor") -> T:
        async with upstreams_of(installation) as service:
            return await work(service, actor)

    return administer(run)


def _query(work: "Callable[[Upstreams], Awaitable[T]]") -> T:
    from app.cli.upstream_pool import upstreams_of

    async def run(installation: "Installation") -> T:
        async with upstreams_of(installation) as service:
            return await work(service)

    return query(run)


def _spec(
    *, aliases: list[str] | None, strip: list[str] | None, endpoints: list[str] | None, **fixed: Any
) -> dict[str, Any]:
    spec = changes(fixed, {"aliases": aliases, "strip": strip, "endpoints": endpoints})
    if "aliases" in spec:
        spec["aliases"] = _aliases(spec["aliases"])
    return spec


def _aliases(texts: list[str]) -> Mapping[str, str]:
    if unclear := [text for text in texts if "=" not in text]:
        raise typer.BadParameter(f"'{unclear[0]}' is no alias: write asked-name=own-name.")
    return dict(text.split("=", 1) for text in texts)


def _print_done(members: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(members)
    else:
        print(sentence)
