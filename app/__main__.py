"""The `antiphon` command. Each verb loads the settings, does one thing, and says in a line what went wrong."""

import asyncio
import sys
import urllib.error
import urllib.request
from typing import Annotated

import typer

from app import __version__
from app.errors import ApiError, ConfigurationError

cli = typer.Typer(
    help="A self-hosted gateway for the OpenAI Responses API.", no_args_is_help=True, add_completion=False
)
keys = typer.Typer(help="API keys for this gateway's own clients.", no_args_is_help=True)
projects = typer.Typer(help="Projects: who owns keys and responses.", no_args_is_help=True)
cli.add_typer(keys, name="keys")
cli.add_typer(projects, name="projects")

_PROBE_SECONDS = 5


def main() -> None:
    """Run the command; a known problem ends it with status 1 and one line."""
    try:
        cli()
    except ConfigurationError as error:
        sys.exit("\n".join(f"antiphon: {problem}" for problem in error.problems))
    except ApiError as error:
        sys.exit(f"antiphon: {error.message}")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve; more than one needs PostgreSQL.")] = None,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the settings and exit.")] = False,
) -> None:
    """Start the gateway."""
    from app.settings import load_settings

    settings = load_settings({"host": host, "port": port, "workers": workers})
    if check_config:
        print("The settings are valid.")
        return
    from app.start import start

    start(settings)


@cli.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only tell whether there is work to do.")] = False,
) -> None:
    """Bring the database's schema up to this version's."""
    from app.settings import load_settings
    from app.storage.schema import migrate as apply_migrations
    from app.storage.schema import pending

    url = load_settings().storage.url
    if not check:
        change = apply_migrations(url)
        print(f"schema {change.before or 'none'} -> {change.after}")
    elif pending(url):
        sys.exit("antiphon: the database needs `antiphon migrate`")
    else:
        print("The schema is current.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Who or what the key is for.")],
    project: Annotated[str | None, typer.Option(help="The project's name; `default` when not given.")] = None,
) -> None:
    """Create an API key. It is printed on the last line, this once."""
    from app.installation import DEFAULT_PROJECT, command_on

    async def run() -> str:
        async with command_on() as installation:
            return await installation.create_key(name, await installation.project(project or DEFAULT_PROJECT))

    print(asyncio.run(run()))


@keys.command("list")
def list_keys() -> None:
    """List the API keys, never the keys themselves."""
    from app.installation import command_on

    async def run() -> None:
        async with command_on() as installation:
            names = {project.id: project.name for project in await installation.projects.list()}
            for key in await installation.keys.list():
                state = "revoked" if key.revoked_at else "active"
                print(f"{key.id}  …{key.hint}  {state:7}  {names[key.project_id]}  {key.name}")

    asyncio.run(run())


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke an API key. Running gateways refuse it within five seconds."""
    from app.installation import command_on

    async def run() -> None:
        async with command_on() as installation:
            await installation.revoke_key(key_id)

    asyncio.run(run())
    print(f"{key_id} is revoked.")


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="The project's name.")],
    retention_days: Annotated[int | None, typer.Option(min=1, max=36500, help="Days its responses are kept.")] = None,
) -> None:
    """Create a project. Its responses are invisible to every other project."""
    from app.installation import command_on

    async def run() -> str:
        async with command_on() as installation:
            return (await installation.create_project(name, retention_days)).id

    print(asyncio.run(run()))


@projects.command("list")
def list_projects() -> None:
    """List the projects."""
    from app.installation import command_on

    async def run() -> None:
        async with command_on() as installation:
            for project in await installation.projects.list():
                days = f"{project.retention_days} days" if project.retention_days else "default retention"
                print(f"{project.id}  {project.name}  {days}")

    asyncio.run(run())


@cli.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@cli.command()
def healthcheck() -> None:
    """Ask the gateway of these settings whether it is ready; for container health checks."""
    from app.settings import load_settings

    server = load_settings().server
    address = f"{server.local_host}:{server.port}"
    # `http_proxy` names the way to upstreams; this gateway is never behind it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{address}/readyz", timeout=_PROBE_SECONDS) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"antiphon: not ready: {error.read(1000).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"antiphon: no gateway answers on {address} ({error})")


if __name__ == "__main__":
    main()
