"""The generated page is the one in docs/, and says something about every setting."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from app.settings.docs import main, reference
from app.settings.gateway import Settings
from app.settings.sources import groups_of, settings_of
from app.settings.upstreams import KeySettings, UpstreamSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs"


def test_every_setting_is_on_the_page_with_a_meaning() -> None:
    page = reference()
    for setting in settings_of(Settings):
        assert f"| `{setting.env}` | `{setting.field}` |" in page
        assert (f"`{setting.env_file}`" in page) == setting.secret
    kinds: list[type[BaseModel]] = [*groups_of(Settings).values(), UpstreamSettings, KeySettings]
    for kind in kinds:
        assert all(info.description for info in kind.model_fields.values())


def test_limits_units_and_defaults_are_stated() -> None:
    page = reference()
    assert "| integer, ≥ 0, ≤ 65535 | `8000` |" in page
    assert "`67108864` (64 MiB)" in page
    assert '| list | `["*"]` |' in page
    assert "| `json` or `console` | `json` |" in page


def test_writing_then_checking_passes(tmp_path: Path) -> None:
    page = tmp_path / "settings.md"
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0


@pytest.mark.parametrize("content", [None, "# old\n"])
def test_a_stale_or_missing_page_fails_the_check_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    page = tmp_path / "settings.md"
    if content is not None:
        page.write_text(content, encoding="utf-8")
    assert main(["--check", str(page)]) == 1
    assert capsys.readouterr().err == f"{page} is stale: run make docs\n"
