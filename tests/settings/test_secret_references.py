"""Secrets: where they come from, and that nothing shows them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings.gateway import StorageSettings, load_settings
from tests.settings.problems import POSTGRES, SECRET, Write, problem


@pytest.mark.parametrize("name", ["ANTIPHON_SECRET_KEY", "DATABASE_URL", "OPENAI_API_KEY"])
def test_a_secret_set_twice_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET, encoding="utf-8")
    value = POSTGRES if name == "DATABASE_URL" else SECRET
    assert (
        problem({name: value, f"{name}_FILE": str(path)})
        == f"{name}_FILE: {name} is set as well; unset one of the two."
    )


@pytest.mark.parametrize("name", ["ANTIPHON_SECRET_KEY", "DATABASE_URL", "OPENAI_API_KEY"])
def test_an_unreadable_secret_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "missing"
    found = problem({f"{name}_FILE": str(path), "ANTIPHON_WORKERS": "2" if name == "DATABASE_URL" else "1"})
    assert found == f"{name}_FILE: cannot read {path}: No such file or directory; check the path and its permissions."


def test_an_empty_and_a_binary_secret_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\n")
    assert f"the file {path} is empty" in problem({"OPENAI_API_KEY_FILE": str(path)})
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in problem({"OPENAI_API_KEY_FILE": str(path)})


def test_a_short_secret_key_is_refused_without_showing_it() -> None:
    found = problem({"ANTIPHON_SECRET_KEY": "hunter2"})
    assert "at least 16 characters" in found
    assert "hunter2" not in found


def test_no_secret_appears_in_the_repr(config: Write) -> None:
    config("[[upstream]]\nname = 'a'\nbase_url = 'https://a.example'\nkeys = ['env:KEY_A']\n")
    settings = load_settings(
        environ={
            "KEY_A": SECRET,
            "OPENAI_API_KEY": f"{SECRET}-2",
            "DATABASE_URL": POSTGRES,
            "ANTIPHON_SECRET_KEY": SECRET,
        }
    )
    assert [key.secret.get_secret_value() for upstream in settings.upstreams for key in upstream.keys] == [
        SECRET,
        f"{SECRET}-2",
    ]
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "very-secret" not in text
        assert "pa55word" not in text


def test_a_validation_error_of_directly_built_settings_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        StorageSettings.model_validate({"database_url": f"mysql://u:{SECRET}@h"})
    assert SECRET not in str(caught.value)
