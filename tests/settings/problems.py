"""What the tests of settings share: secrets that no message may show, and the problems that loading reports."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.settings.gateway import load_settings

SECRET = "sk-very-secret-0123456789"
POSTGRES = "postgres://team:pa55word@db.internal/antiphon"
Write = Callable[[str], Path]


def problems(environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags, environ or {})
    assert SECRET not in str(caught.value)
    assert "pa55word" not in str(caught.value)
    assert all("\n" not in line for line in caught.value.problems)
    return list(caught.value.problems)


def problem(environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None) -> str:
    found = problems(environ, flags)
    assert len(found) == 1, found
    return found[0]
