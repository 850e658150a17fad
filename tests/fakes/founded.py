"""A database as the first start of a gateway leaves it, without that gateway."""

from pydantic import SecretStr

from app.boot.installation import FirstKeys, open_installation
from app.security.key_ring import KeyRing
from app.settings.gateway import StorageSettings
from app.storage.schema_migration import migrate


def patient_storage(database_url: str) -> StorageSettings:
    """The settings of this database, with time enough for the commits of a busy machine."""
    return StorageSettings(database_url=SecretStr(database_url), commit_timeout_seconds=30.0)


async def found(database_url: str, ring: KeyRing, *, with_keys: bool = False) -> FirstKeys | None:
    """Make the schema and the default project, with its first keys if they are asked for; return those."""
    migrate(database_url)
    async with open_installation(patient_storage(database_url), ring) as installation:
        await installation.take_over_secrets()
        return await installation.first_keys(with_admin=True, are_kept=with_keys)
