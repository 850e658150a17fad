"""Issues API keys through the product's own store, beside the gateway that serves from this data folder.

`python -m benchmarks.issue DATA_DIR COUNT` prints the keys, a line each.
"""

import asyncio
import sys
from pathlib import Path

from app.boot.installation import DEFAULT_PROJECT, open_installation
from app.security.key_ring import KeyRing
from app.security.master_secret import read_secret
from app.settings.gateway import StorageSettings

_AT_ONCE = 256


async def main(data: Path, count: int) -> None:
    """Open the installation in this data folder, and issue so many keys."""
    settings = StorageSettings(data_dir=data)
    async with open_installation(settings, KeyRing(read_secret(settings), settings.previous_secrets)) as installation:
        project = await installation.project(DEFAULT_PROJECT)
        for first in range(0, count, _AT_ONCE):
            names = [f"member {number}" for number in range(first, min(count, first + _AT_ONCE))]
            print("\n".join(await asyncio.gather(*(installation.create_key(name, project) for name in names))))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
