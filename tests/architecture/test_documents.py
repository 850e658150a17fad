"""What the documents say of the code, where a machine can check it."""

import re
from pathlib import Path

import pytest

from app.settings.sources import REMOVED

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "adr").glob("*.md"))
MAP = ROOT / "ARCHITECTURE.md"
ROOMS = sorted(path.parent for path in (ROOT / "app").glob("**/__init__.py") if path.parent.name != "app")
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
_NAMED = re.compile(r"`((?:app|docker|docs|migrations|requirements|tests)/[\w./-]+)`")
_LINKED = re.compile(r"\]\(([\w./-]+)\)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    named = [ROOT / path for path in _NAMED.findall(text)]
    linked = [document.parent / path for path in _LINKED.findall(text)]
    assert [path for path in (*named, *linked) if not path.exists()] == []
    assert [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in TESTS] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_a_setting_that_a_document_names_is_one(document: Path) -> None:
    known = set(re.findall(r"ANTIPHON_[A-Z_]+", (ROOT / "docs" / "settings.md").read_text()))
    named = {name.rstrip("_").removesuffix("_FILE") for name in re.findall(r"ANTIPHON_[A-Z_]+", document.read_text())}
    assert named <= known | REMOVED.keys() | {"ANTIPHON_KEY"}


@pytest.mark.parametrize("decision", DECISIONS, ids=relative)
def test_a_decision_names_the_check_that_enforces_it(decision: Path) -> None:
    _, _, enforced_by = decision.read_text().partition("**Enforced by**")
    assert any(path.endswith(".py") for path in _NAMED.findall(enforced_by))


def test_the_map_has_every_room_on_at_most_120_lines() -> None:
    text = MAP.read_text()
    assert len(text.splitlines()) <= 120
    missing = [relative(room) for room in ROOMS if f"`{room.name}`" not in text and f"`{relative(room)}`" not in text]
    assert missing == []
