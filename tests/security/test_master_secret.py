"""The master secret that a first start makes in the data folder."""

import errno
import os
from pathlib import Path
from typing import Self

import pytest

from app.errors import ConfigurationError
from app.security.master_secret import read_secret
from app.settings.gateway import StorageSettings


def test_a_secret_that_another_process_is_about_to_write_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret.key"
    file.touch()
    monkeypatch.setattr("app.security.master_secret.time.sleep", lambda _: file.write_text("written\n"))
    assert read_secret(StorageSettings(data_dir=tmp_path)) == b"written"


def test_a_disk_without_room_leaves_no_empty_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(descriptor: int, _: str) -> Full:
        os.close(descriptor)
        return Full()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", full)
        with pytest.raises(ConfigurationError, match="No space left on device"):
            read_secret(StorageSettings(data_dir=tmp_path))
    assert read_secret(StorageSettings(data_dir=tmp_path))
