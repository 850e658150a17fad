"""Run `antiphon projects`: administer projects, which own keys and responses."""

from typing import TYPE_CHECKING, Annotated

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
from app.cli.options import Budgets, Models, OutputTokens, Requests, Streams, Tokens, limited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.administration.actor import Actor
    from app.boot.installation import Installation
    from app.state.records import Project

projects = typer.Typer(help="Projects: who owns keys and responses.", no_args_is_help=True, rich_markup_mode=None)

Days = Annotated[int | None, typer.Option(min=0, max=36500, help="Days its responses are kept; 0 for the setting's.")]
ConversationDays = Annotated[
    int | None,
    typer.Option(
        min=0, max=36500, help="Days its conversations are kept after their last change; 0 for as its responses."
    ),
]
Named = Annotated[str, typer.Argument(help="The project's name or id.")]

_COLUMNS: Columns = {
    "id": member("id"),
    "name": member("name"),
    "retention": lambda row: f"{row['retention_days']} days" if row["retention_days"] else "default",
    "models": lambda row: row["policy"]["models"],
    "created (UTC)": lambda row: moment(row["created_at"]),
}


@projects.command("create")
def create_project(
    *,
    name: Annotated[str, typer.Argument(help="The project's name.")],
    retention_days: Days = None,
    conversation_days: ConversationDays = None,
    models: Models = None,
    rpm: Requests = None,
    tpm: Tokens = None,
    streams: Streams = None,
    max_output_tokens: OutputTokens = None,
    budget: Budgets = None,
    as_json: AsJson = False,
) -> None:
    """Create a project. Its responses are invisible to every other project."""
    from app.administration.views import resources
    from app.state.policies import ANY_PROJECT, ProjectPolicy

    limits = limited(
        ANY_PROJECT.limits,
        rpm=rpm,
        tpm=tpm,
        streams=streams,
        max_output_tokens=max_output_tokens,
        budgets=budget,
    )
    policy = ProjectPolicy(models=tuple(models or ANY_PROJECT.models), limits=limits)

    async def run(installation: "Installation", actor: "Actor") -> "Project":
        return await installation.projects.create(
            actor,
            name=name,
            retention_days=retention_days or None,
            conversation_days=conversation_days or None,
            policy=policy,
        )

    made = administer(run)
    if as_json:
        print_json(resources.project(made))
    else:
        print(made.id)


@projects.command("list")
def list_projects(after: After = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the projects, the newest first."""
    from app.administration.views import resources

    async def run(installation: "Installation") -> "Sequence[Project]":
        return await installation.projects.list(after=after, limit=limit + 1)

    print_page([resources.project(project) for project in query(run)], limit, _COLUMNS, as_json=as_json)


@projects.command("show")
def show_project(project: Named, as_json: AsJson = False) -> None:
    """Show one project with its limits."""
    from app.administration.views import resources

    async def run(installation: "Installation") -> "Project":
        return await installation.project(project)

    print_members(resources.project(query(run)), as_json=as_json)


@projects.command("update")
def update_project(
    *,
    project: Named,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    retention_days: Days = None,
    conversation_days: ConversationDays = None,
    models: Models = None,
    rpm: Requests = None,
    tpm: Tokens = None,
    streams: Streams = None,
    max_output_tokens: OutputTokens = None,
    budget: Budgets = None,
    as_json: AsJson = False,
) -> None:
    """Change a project; what is not given stays as it is."""
    from app.administration.views import resources
    from app.state.policies import ProjectPolicy

    async def run(installation: "Installation", actor: "Actor") -> "Project":
        current = await installation.project(project)
        limits = limited(
            current.policy.limits,
            rpm=rpm,
            tpm=tpm,
            streams=streams,
            max_output_tokens=max_output_tokens,
            budgets=budget,
        )
        policy = ProjectPolicy(models=tuple(models or current.policy.models), limits=limits)
        days = {"retention_days": retention_days, "conversation_days": conversation_days}
        members = changes({"name": name, **days}, {})
        members |= {field: None for field, value in days.items() if value == 0}
        return await installation.projects.update(
            actor, current.id, {**members, "policy": policy}, version=current.version
        )

    print_members(resources.project(administer(run)), as_json=as_json)


@projects.command("erase")
def erase_project(project: Named) -> None:
    """Erase a project with all that it has: responses, conversations, runs, usage, keys. Nothing brings it back."""

    async def run(installation: "Installation", actor: "Actor") -> "Project":
        erased = await installation.project(project)
        await installation.projects.erase(actor, erased.id)
        return erased

    erased = administer(run)
    print(f"{erased.name} ({erased.id}) is erased.")
