"""Where the settings say that limits are counted."""

import sys
import tomllib
from pathlib import Path

import pytest

from app.administration.settings import effective
from app.settings.gateway import load_settings
from tests.settings.problems import problem


@pytest.mark.parametrize(
    "given",
    [
        "redis://h",
        "redis://:pa55word@h:6380/2",
        "rediss://team:pa55word@h/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/valkey.sock?db=1",
        "unix://team:pa55word@/run/valkey.sock",
    ],
)
def test_urls_of_a_server_are_taken_and_shown_to_nobody(given: str) -> None:
    settings = load_settings(environ={"ANTIPHON_LIMITS_URL": given})
    assert settings.limits.url is not None
    assert settings.limits.url.get_secret_value() == given
    assert given not in repr(settings)
    [shown] = [setting for setting in effective(settings, settings) if setting.name == "limits.url"]
    assert (shown.value, shown.source) == ("***", "ANTIPHON_LIMITS_URL")


@pytest.mark.parametrize(
    "given",
    [
        "pa55word",
        "http://pa55word@h",
        "redis://",
        "redis://:pa55word@",
        "redis://h/pa55word",
        "redis://h:pa55word",
        "redis://h?db=pa55word",
        "redis://h?socket_timeout=60",
        "unix://",
        "unix://h/run/valkey.sock",
    ],
)
def test_other_urls_are_refused(given: str) -> None:
    assert problem({"ANTIPHON_LIMITS_URL": given}).startswith("ANTIPHON_LIMITS_URL: ")


def test_a_url_without_the_package_for_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)  # as where it is not installed
    assert problem({"ANTIPHON_LIMITS_URL": "redis://:pa55word@h"}) == (
        "ANTIPHON_LIMITS_URL: needs a package that is not installed; "
        f"run {sys.executable} -m pip install 'antiphon[redis]', or unset it."
    )
    assert load_settings(environ={}).limits.url is None
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert [name.partition(">")[0] for name in project["optional-dependencies"]["redis"]] == ["redis"]


def test_limits_are_counted_by_the_gateway_itself_when_nothing_is_said() -> None:
    assert load_settings(environ={}).limits.url is None
