"""Settings as an operator meets them: names, defaults, precedence, and every mistake at once."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings.gateway import Settings, load_settings
from app.settings.server import ServerSettings
from app.settings.sources import settings_of
from tests.settings.problems import POSTGRES, SECRET, Write, problem, problems

# What takes no number.
OTHERS = {
    "workers",
    "admin_key",
    "trusted_proxies",
    "database_url",
    "secret_key",
    "previous_secret_keys",
    "url",
    "allow_unpriced_models",
    "allow_private_upstreams",
    "level",
    "format",
}


def test_nothing_set_gives_the_defaults() -> None:
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.server == ServerSettings()
    assert settings.storage.url == "sqlite:///data/antiphon.db"
    assert settings.storage.is_sqlite
    assert settings.upstreams == ()


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_PORT", "8123")
    assert load_settings().server.port == 8123


def test_settings_built_directly_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER", '{"port": 1}')
    monkeypatch.setenv("ANTIPHON_PORT", "1")
    assert Settings().server.port == 8000
    assert Settings(server=ServerSettings(port=3)).server.port == 3


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings().server = ServerSettings()  # type: ignore[misc]


def test_every_name_is_unique_across_the_groups() -> None:
    settings = settings_of(Settings)
    for names in ([s.field for s in settings], [s.env for s in settings], [s.flag for s in settings]):
        assert len(set(names)) == len(names)


def test_every_environment_name_reaches_its_own_field() -> None:
    defaults = Settings()
    for setting in settings_of(Settings):
        if setting.field in OTHERS:
            continue
        default = getattr(getattr(defaults, setting.group), setting.field)
        value = {"host": "0.0.0.0", "surfaces": "moderations", "cors_origins": "http://a"}.get(setting.field, "3")
        settings = load_settings(environ={setting.env: value})
        read = getattr(getattr(settings, setting.group), setting.field)
        shown = ",".join(read) if isinstance(read, tuple) else str(read)
        assert shown.removesuffix(".0") == value.removesuffix(".0")
        assert read != default


def test_an_origin_has_no_path() -> None:
    read = load_settings(environ={"ANTIPHON_CORS_ORIGINS": "https://app.example, http://[::1]:3000,*"})
    assert read.server.cors_origins == ("https://app.example", "http://[::1]:3000", "*")
    for wrong in ("https://app.example/", "app.example", "https://*.example"):
        assert "an origin is a scheme" in problem({"ANTIPHON_CORS_ORIGINS": wrong})


def test_trusted_proxies_are_networks_with_commas_between() -> None:
    read = load_settings(environ={"ANTIPHON_TRUSTED_PROXIES": "10.0.0.0/8, ::1"})
    assert read.server.trusted_proxies == ("10.0.0.0/8", "::1")
    assert Settings().server.trusted_proxies == ()
    assert "networks or addresses" in problem({"ANTIPHON_TRUSTED_PROXIES": "10.0.0.0/8,everybody"})


def test_an_admin_key_is_a_long_secret() -> None:
    read = load_settings(environ={"ANTIPHON_ADMIN_KEY": SECRET}).server
    assert read.admin_key is not None
    assert read.admin_key.get_secret_value() == SECRET
    assert SECRET not in repr(read)
    told = problem({"ANTIPHON_ADMIN_KEY": "short"})
    assert "16 characters" in told
    assert "short" not in told


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("10.0.0.5", False)],
)
def test_a_gateway_on_loopback_is_reached_from_its_machine_alone(host: str, is_local: bool) -> None:
    assert ServerSettings(host=host).is_local is is_local


def test_the_names_outside_the_rule_are_read() -> None:
    settings = load_settings(
        environ={
            "ANTIPHON_LOG_LEVEL": "debug",
            "ANTIPHON_LOG_FORMAT": "console",
            "DATABASE_URL": POSTGRES,
            "ANTIPHON_WORKERS": "4",
        }
    )
    assert (settings.logging.level, settings.logging.format) == ("debug", "console")
    assert settings.server.workers == 4
    assert not settings.storage.is_sqlite


@pytest.mark.parametrize(
    ("host", "local_host"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("10.0.0.5", "10.0.0.5"),
        ("gateway.internal", "gateway.internal"),
    ],
)
def test_a_url_of_the_gateway_on_its_own_machine_has_a_host_that_can_be_called(host: str, local_host: str) -> None:
    assert ServerSettings(host=host).local_host == local_host


def test_an_empty_variable_counts_as_unset() -> None:
    settings = load_settings(environ={"ANTIPHON_PORT": "", "DATABASE_URL": " ", "OPENAI_API_KEY": "", "ANTIPHON_X": ""})
    assert settings == Settings()


def test_a_misspelled_variable_is_refused_with_a_suggestion() -> None:
    assert problem({"ANTIPHON_PROT": "1"}) == "ANTIPHON_PROT: no such setting; did you mean 'ANTIPHON_PORT'?"
    assert problem({"ANTIPHON_DATABASE_URL": POSTGRES}).endswith("did you mean 'DATABASE_URL'?")


def test_an_unknown_variable_like_no_other_is_refused_without_a_guess() -> None:
    assert "no such setting; remove it" in problem({"ANTIPHON_QQQQQQQ": "1"})


def test_the_variables_kubernetes_adds_for_a_service_of_our_name_are_not_settings() -> None:
    links = {
        "ANTIPHON_SERVICE_HOST": "10.0.0.1",
        "ANTIPHON_SERVICE_PORT_HTTP": "80",
        "ANTIPHON_PORT": "tcp://10.0.0.1:80",
        "ANTIPHON_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(environ=links) == Settings()


def test_flag_beats_environment_beats_file_beats_default(config: Write) -> None:
    config("[server]\nport = 1\nworkers = 1\nhost = 'from-file'\ndrain_seconds = 7\n")
    settings = load_settings(
        {"port": 3, "host": None}, {"ANTIPHON_PORT": "2", "ANTIPHON_HOST": "from-env", "DATABASE_URL": POSTGRES}
    )
    assert settings.server.port == 3
    assert settings.server.host == "from-env"
    assert settings.server.drain_seconds == 7
    assert settings.server.max_json_depth == 64


def test_a_secret_file_beats_the_config_file(config: Write, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-the-secret-file\n", encoding="utf-8")
    config("[storage]\nsecret_key = 'env:OTHER_KEY'\n")
    environ = {"OTHER_KEY": "from-the-config-file", "ANTIPHON_SECRET_KEY_FILE": str(tmp_path / "key")}
    secret = load_settings(environ=environ).storage.secret_key
    assert secret is not None
    assert secret.get_secret_value() == "from-the-secret-file"


def test_an_error_names_the_place_that_won(config: Write) -> None:
    config("[server]\nport = -1\n")
    assert problem().startswith("antiphon.toml: [server] port: ")
    assert problem({"ANTIPHON_PORT": "x"}).startswith("ANTIPHON_PORT: ")
    assert problem({"ANTIPHON_PORT": "2"}, {"port": 99999}).startswith("--port: ")


def test_an_unknown_flag_is_refused_with_a_suggestion() -> None:
    assert problem(flags={"drain_second": 1}) == "--drain-second: no such setting; did you mean 'drain_seconds'?"


def test_every_problem_is_reported_at_once(config: Write) -> None:
    config(
        f"[storage]\nsecret_key = '{SECRET}'\n[relay]\nconnect_timeout_seconds = 0\n"
        "[[upstream]]\nname = 'a'\nbase_url = 'ftp://x'\nkeys = ['env:UNSET']\n"
    )
    found = problems(
        {"ANTIPHON_PROT": "1", "ANTIPHON_LOG_LEVEL": "loud", "OPENAI_API_KEY_FILE": "/nonexistent"}, {"port": -1}
    )
    assert sorted(line.split(": ")[0] for line in found) == [
        "--port",
        "ANTIPHON_LOG_LEVEL",
        "ANTIPHON_PROT",
        "OPENAI_API_KEY_FILE",
        *["antiphon.toml"] * 4,
    ]


def test_cross_checks_are_reported_together() -> None:
    found = problems(
        {"ANTIPHON_WORKERS": "2", "OPENAI_BASE_URL": "http://localhost:8000", "ANTIPHON_IDLE_TIMEOUT_SECONDS": "nan"}
    )
    assert [line.split(":")[0] for line in found] == [
        "ANTIPHON_WORKERS",
        "ANTIPHON_IDLE_TIMEOUT_SECONDS",
        "OPENAI_BASE_URL",
    ]
