"""Run the `antiphon` command: a verb loads the settings, does one thing, and reports an error in one line."""

import gc
import sys
from typing import Annotated

import typer

from app import __version__
from app.cli.audit import audit
from app.cli.calls import calls
from app.cli.keys import keys
from app.cli.projects import projects
from app.cli.secrets import secrets
from app.cli.settings import settings
from app.cli.upstreams import upstreams
from app.cli.usage import usage
from app.errors import ApiError, ConfigurationError, NotFoundError

cli = typer.Typer(
    help="A self-hosted gateway for the OpenAI Responses API.",
    no_args_is_help=True,
    add_completion=False,
    # No boxes as wide as the terminal: output goes to pipes and logs, too.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
cli.add_typer(projects, name="projects")
cli.add_typer(keys, name="keys")
cli.add_typer(upstreams, name="upstreams")
cli.add_typer(secrets, name="secrets")
cli.command()(usage)
cli.command()(calls)
cli.command()(settings)
cli.command()(audit)

_PROBE_SECONDS = 5

# Libraries load these where they find them: structlog for tracebacks in colour, FastAPI for models of pydantic's first
# version. Nothing here has either, and they are 6 MB and a twelfth of the start. Worker processes import this, too.
for _unused in ("rich", "pydantic.v1"):
    sys.modules.setdefault(_unused, None)  # type: ignore[arg-type]  # None forbids the import, says the language


def main() -> None:
    """Run the command; a known error ends it with status 1 and one line."""
    try:
        cli()
    except ConfigurationError as error:
        sys.exit("\n".join(f"antiphon: {problem}" for problem in error.problems))
    except NotFoundError as error:
        sys.exit(f"antiphon: {error.message} `list` shows what there is.")
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
    # Imports make half a million objects and no garbage; looking for it is a tenth of the start. `start` enables it.
    gc.disable()
    from app.settings.gateway import load_settings

    loaded = load_settings({"host": host, "port": port, "workers": workers})
    if check_config:
        print("The settings are valid.")
        return
    from app.boot.start import start

    start(loaded)


@cli.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="Only tell whether there is work to do.")] = False,
) -> None:
    """Bring the database's schema up to this version's."""
    from app.settings.gateway import load_settings
    from app.storage.schema_migration import migrate as apply_migrations
    from app.storage.schema_migration import needs_migration

    url = load_settings().storage.url
    if not check:
        change = apply_migrations(url)
        print(f"schema {change.before or 'none'} -> {change.after}")
    elif needs_migration(url):
        sys.exit("antiphon: the database needs `antiphon migrate`")
    else:
        print("The schema is current.")


@cli.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@cli.command()
def healthcheck() -> None:
    """Ask the gateway of these settings whether it is ready; for container health checks."""
    import urllib.error
    import urllib.request

    from app.settings.gateway import load_settings

    server = load_settings().server
    address = f"{server.local_host}:{server.port}"
    # `http_proxy` is for upstreams; this gateway is never behind it.
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
