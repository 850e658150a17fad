"""Read the master secret: from the settings, or from a file of the data folder that a first start makes."""

import os
import time
from pathlib import Path

from app.errors import ConfigurationError
from app.settings.gateway import StorageSettings

_SECRET_WAIT_SECONDS = 1.0


def read_secret(settings: StorageSettings) -> bytes:
    """Return the master secret: the setting, else the data folder's `secret.key`, which is made when it is missing."""
    if settings.secret_key is None:
        _make(settings)
    return kept_secret(settings)


def kept_secret(settings: StorageSettings) -> bytes:
    """Return the master secret as `read_secret` does, and make none. Raises ConfigurationError where there is none."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = _file(settings)
    try:
        secret = path.read_text().strip()
        # Another process may have just made the file, and be about to write it.
        deadline = time.monotonic() + _SECRET_WAIT_SECONDS
        while not secret and time.monotonic() < deadline:
            time.sleep(0.01)
            secret = path.read_text().strip()
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no secret in '{path}': set ANTIPHON_SECRET_KEY to the gateway's, or ANTIPHON_DATA_DIR to its "
            "folder. A first `antiphon serve` makes one."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"The secret in '{path}' cannot be read ({error.strerror}).") from error
    if not secret:
        raise ConfigurationError(f"The secret in '{path}' is empty. Restore it from a backup.")
    return secret.encode()


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError when it is there already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError:
        # On a full disk an empty file would be left, and taken for a lost secret.
        path.unlink(missing_ok=True)
        raise


def _make(settings: StorageSettings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(_file(settings), os.urandom(32).hex() + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"The data folder '{settings.data_dir}' cannot be written ({error.strerror}). "
            "Set ANTIPHON_DATA_DIR to a folder this user owns."
        ) from error


def _file(settings: StorageSettings) -> Path:
    return settings.data_dir / "secret.key"
