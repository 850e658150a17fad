"""An empty folder for every test, and a config file where one is asked for."""

from pathlib import Path

import pytest

from tests.settings.problems import Write


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config() -> Write:
    def write(text: str) -> Path:
        path = Path("antiphon.toml")
        path.write_text(text, encoding="utf-8")
        return path

    return write
