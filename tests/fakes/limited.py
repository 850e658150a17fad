"""Keys with limits, made as an administrator makes them, in the database that a gateway serves from."""

import secrets

from app.administration.actor import Actor
from app.boot.installation import open_installation
from app.security.key_ring import KeyRing
from app.state.policies import KeyPolicy, Limits, ProjectPolicy
from tests.fakes.founded import patient_storage
from tests.fakes.gateway import SECRET

ADMINISTRATOR = Actor("a test")


async def limited_keys(database_url: str, *limits: Limits, project: Limits | None = None) -> list[str]:
    """A key for each of these limits, all of one new project."""
    return await keys_with(database_url, *[KeyPolicy(limits=each) for each in limits], project=project)


async def keys_with(database_url: str, *policies: KeyPolicy, project: Limits | None = None) -> list[str]:
    """A key for each of these policies, all of one new project."""
    storage = patient_storage(database_url)
    async with open_installation(storage, KeyRing(SECRET)) as installation:
        policy = ProjectPolicy(limits=project or Limits())
        name = f"team {secrets.token_hex(4)}"
        owner = await installation.projects.create(ADMINISTRATOR, name=name, policy=policy)
        made = [
            await installation.keys.create(ADMINISTRATOR, project_id=owner.id, name=f"limited {number}", policy=each)
            for number, each in enumerate(policies)
        ]
    return [key for _, key in made]
