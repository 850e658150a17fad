"""Run `antiphon keys`: administer API keys. A key itself is printed once, on the last line."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import (
    After,
    AsJson,
    Columns,
    Limit,
    administer,
    changes,
    member,
    moment,
    print_json,
    print_members,
    print_page,
    query,
)
from app.cli.options import Budgets, Models, OutputTokens, Requests, Streams, Tokens, limited, moment_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.administration.actor import Actor
    from app.boot.installation import Installation
    from app.state.policies import KeyPolicy, Limits
    from app.state.records import ApiKey

keys = typer.Typer(
    help="API keys for this gateway's own clients and administrators.", no_args_is_help=True, rich_markup_mode=None
)

KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]
Owner = Annotated[str | None, typer.Option(help="The person or service that has it; `none` for nobody.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated. `none` for none.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help="responses, conversations, models, usage, chat, embeddings, completions, moderations, admin:read or "
        "admin; may be repeated. A new key without one gets the first six.",
    ),
]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", help="A network it may be used from, 10.0.0.0/8; may be repeated. `none` for any."),
]
Expires = Annotated[str | None, typer.Option(help="When it ends: 2027-01-31, or 90d from now; `none` for never.")]

_COLUMNS: Columns = {
    "id": member("id"),
    "hint": lambda row: f"…{row['hint']}",
    "state": member("state"),
    "owner": member("owner"),
    "scopes": lambda row: row["policy"]["scopes"],
    "last used (UTC)": lambda row: moment(row["last_used_at"]),
}


@keys.command("create")
def create_key(
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    project: Annotated[str | None, typer.Option(help="The project's name or id; `default` when not given.")] = None,
    owner: Owner = None,
    tags: Tags = None,
    scopes: Scopes = None,
    models: Models = None,
    addresses: Addresses = None,
    rpm: Requests = None,
    tpm: Tokens = None,
    streams: Streams = None,
    max_output_tokens: OutputTokens = None,
    budget: Budgets = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key. It is printed on the last line, this once."""
    from app.boot.installation import DEFAULT_PROJECT
    from app.state.policies import NEW_KEY

    limits = limited(
        NEW_KEY.limits, rpm=rpm, tpm=tpm, streams=streams, max_output_tokens=max_output_tokens, budgets=budget
    )
    policy = _policy(NEW_KEY, limits, scopes, models, addresses)
    members = _members(name, owner, tags, expires)

    async def run(installation: "Installation", actor: "Actor") -> "tuple[ApiKey, str]":
        return await installation.keys.create(
            actor, project_id=(await installation.project(project or DEFAULT_PROJECT)).id, policy=policy, **members
        )

    _print_new(*administer(run), as_json=as_json)


@keys.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only this project's, by its name or id.")] = None,
    after: After = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the API keys, the newest first; never the keys themselves."""

    async def run(installation: "Installation") -> "tuple[Sequence[ApiKey], dict[str, str]]":
        project_id = (await installation.project(project)).id if project else None
        found = await installation.keys.list(project_id=project_id, after=after, limit=limit + 1)
        owners = {key.project_id for key in found}
        return found, {owner: (await installation.projects.get(owner)).name for owner in owners}

    found, names = query(run)
    columns: Columns = {**_COLUMNS, "project": lambda row: names[row["project_id"]], "name": member("name")}
    print_page([_key_view(key) for key in found], limit, columns, as_json=as_json)


@keys.command("show")
def show_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Show what is known of one key, never the key itself."""

    async def run(installation: "Installation") -> "ApiKey":
        return await installation.keys.get(key_id)

    print_members(_key_view(query(run)), as_json=as_json)


@keys.command("update")
def update_key(
    *,
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    owner: Owner = None,
    tags: Tags = None,
    scopes: Scopes = None,
    models: Models = None,
    addresses: Addresses = None,
    rpm: Requests = None,
    tpm: Tokens = None,
    streams: Streams = None,
    max_output_tokens: OutputTokens = None,
    budget: Budgets = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Change a key; what is not given stays as it is."""
    members = _members(name, owner, tags, expires)

    async def run(installation: "Installation", actor: "Actor") -> "ApiKey":
        current = await installation.keys.get(key_id)
        limits = limited(
            current.policy.limits,
            rpm=rpm,
            tpm=tpm,
            streams=streams,
            max_output_tokens=max_output_tokens,
            budgets=budget,
        )
        policy = _policy(current.policy, limits, scopes, models, addresses)
        return await installation.keys.update(actor, key_id, {**members, "policy": policy}, version=current.version)

    print_members(_key_view(administer(run)), as_json=as_json)


@keys.command("rotate")
def rotate_key(
    key_id: KeyId,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the key before works as well.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put another key in its place. It is printed on the last line, this once."""

    async def run(installation: "Installation", actor: "Actor") -> "tuple[ApiKey, str]":
        return await installation.keys.rotate(actor, key_id, overlap_seconds=int(overlap_hours * 3600))

    _print_new(*administer(run), as_json=as_json)


@keys.command("block")
def block_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Refuse a key until it is unblocked. Running gateways do so within five seconds."""

    async def run(installation: "Installation", actor: "Actor") -> "ApiKey":
        return await installation.keys.block(actor, key_id)

    _print_done(administer(run), "is blocked", as_json=as_json)


@keys.command("unblock")
def unblock_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Take a blocked key again."""

    async def run(installation: "Installation", actor: "Actor") -> "ApiKey":
        return await installation.keys.unblock(actor, key_id)

    _print_done(administer(run), "is not blocked any more", as_json=as_json)


@keys.command("revoke")
def revoke_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Revoke an API key for ever. Running gateways refuse it within five seconds."""

    async def run(installation: "Installation", actor: "Actor") -> "ApiKey":
        return await installation.keys.revoke(actor, key_id)

    _print_done(administer(run), "is revoked", as_json=as_json)


def _policy(
    current: "KeyPolicy",
    limits: "Limits",
    scopes: list[str] | None,
    models: list[str] | None,
    addresses: list[str] | None,
) -> "KeyPolicy":
    """Apply the given options to a policy; an option that is not given changes nothing."""
    import msgspec

    from app.state.policies import SCOPES

    if unknown := [scope for scope in scopes or () if scope not in SCOPES]:
        raise typer.BadParameter(f"There is no scope '{unknown[0]}'. There are {', '.join(SCOPES)}.")
    given = changes({"scopes": scopes, "models": models}, {"addresses": addresses})
    return msgspec.structs.replace(current, limits=limits, **{name: tuple(values) for name, values in given.items()})


def _members(name: str | None, owner: str | None, tags: list[str] | None, expires: str | None) -> dict[str, Any]:
    members = changes({"name": name}, {"owner": owner, "tags": tags, "expires_at": expires})
    if members.get("expires_at"):
        members["expires_at"] = moment_ahead(members["expires_at"], int(time.time()))
    return members


def _key_view(key: "ApiKey") -> dict[str, Any]:
    from app.administration.views import resources

    return resources.api_key(key, int(time.time()))


def _print_new(made: "ApiKey", key: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_key_view(made), "key": key})
        return
    typer.echo(f"{made.id}: keep this key, it is not shown again.", err=True)
    print(key)


def _print_done(changed: "ApiKey", what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_key_view(changed))
    else:
        print(f"{changed.id} {what}.")
