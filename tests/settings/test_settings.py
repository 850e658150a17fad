"""Settings as an operator meets them: names, places, precedence, limits, and the words of every refusal."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import ConfigurationError
from app.settings import (
    ServerSettings,
    Settings,
    StorageSettings,
    UpstreamSettings,
    load_settings,
)
from app.settings_sources import settings_of

ROOT = Path(__file__).parents[2]
SECRET = "sk-very-secret-0123456789"
POSTGRES = "postgres://team:pa55word@db.internal/antiphon"

Write = Callable[[str], Path]


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


# Names and defaults


def test_nothing_set_gives_the_defaults() -> None:
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.server == ServerSettings()
    assert settings.storage.url == "sqlite+aiosqlite:///data/antiphon.db"
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
        if setting.field in ("workers", "database_url", "secret_key", "level", "format"):
            continue
        default = getattr(getattr(defaults, setting.group), setting.field)
        value = "3" if setting.field != "host" else "0.0.0.0"
        settings = load_settings(environ={setting.env: value})
        read = getattr(getattr(settings, setting.group), setting.field)
        assert str(read).removesuffix(".0") == value.removesuffix(".0")
        assert read != default


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


# Precedence


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


# Secrets


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
    assert [key.get_secret_value() for upstream in settings.upstreams for key in upstream.keys] == [
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


# The database


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h:6543/d?sslmode=require", "postgresql+psycopg://u:p@h:6543/d?sslmode=require"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+psycopg:///d?host=/run/postgresql"),
        ("sqlite:///some/file.db", "sqlite+aiosqlite:///some/file.db"),
        ("sqlite+aiosqlite:////var/lib/file.db", "sqlite+aiosqlite:////var/lib/file.db"),
    ],
)
def test_pasted_database_urls_become_sqlalchemys(given: str, url: str) -> None:
    storage = load_settings(environ={"DATABASE_URL": given}).storage
    assert storage.url == url
    assert storage.is_sqlite == url.startswith("sqlite")


@pytest.mark.parametrize(
    "given",
    [
        "mysql://team:pa55word@h/d",
        "postgresql+asyncpg://team:pa55word@h/d",
        "postgres:pa55word",
        "postgresql://team:pa55word/x@h/d",
        "postgresql://[pa55word/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/pa55word",
        "pa55word",
    ],
)
def test_other_database_urls_are_refused(given: str) -> None:
    assert problem({"DATABASE_URL": given}).startswith("DATABASE_URL: ")


def test_an_empty_database_flag_is_refused_rather_than_used() -> None:
    assert problem(flags={"database_url": ""}).startswith("--database-url: must be postgresql://")


def test_the_default_database_is_in_the_data_folder() -> None:
    storage = load_settings(environ={"ANTIPHON_DATA_DIR": "/var/lib/antiphon"}).storage
    assert storage.url == "sqlite+aiosqlite:////var/lib/antiphon/antiphon.db"


def test_several_workers_on_sqlite_are_refused() -> None:
    found = problem({"ANTIPHON_WORKERS": "2"})
    assert found.startswith("ANTIPHON_WORKERS: ")
    assert "set DATABASE_URL to a PostgreSQL database" in found
    with pytest.raises(ValidationError):
        Settings(server=ServerSettings(workers=2))


def test_a_wrong_database_url_is_not_also_called_sqlite() -> None:
    assert problem({"ANTIPHON_WORKERS": "2", "DATABASE_URL": "mysql://h/d"}).startswith("DATABASE_URL: ")


# The config file


def test_the_named_config_file_is_read_instead_of_the_default(config: Write, tmp_path: Path) -> None:
    config("[server]\nport = 1\n")
    (tmp_path / "other.toml").write_text("[server]\nport = 2\n", encoding="utf-8")
    assert load_settings(environ={"ANTIPHON_CONFIG": "other.toml"}).server.port == 2
    assert load_settings(environ={}).server.port == 1


def test_a_named_config_file_must_exist() -> None:
    assert problem({"ANTIPHON_CONFIG": "gone.toml"}).startswith("ANTIPHON_CONFIG: cannot read gone.toml: No such file")


def test_a_default_config_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "antiphon.toml").mkdir()
    assert problem().startswith("antiphon.toml: cannot read antiphon.toml: Is a directory")


def test_broken_toml_is_reported_with_its_line(config: Write) -> None:
    config("[server]\nport = \n")
    assert "is not valid TOML" in problem()
    assert "line 2" in problem()


def test_unknown_tables_and_keys_are_refused_with_suggestions(config: Write) -> None:
    config(
        "[servr]\nport = 1\n[storage]\nretention_day = 3\n[zzz]\n"
        "[[upstream]]\nname = 'a'\nbase_url = 'https://a.example'\nkey = []\n"
    )
    found = problems()
    assert found[0] == "antiphon.toml: servr: no such setting; did you mean 'server'?"
    assert found[1] == "antiphon.toml: [storage] retention_day: no such setting; did you mean 'retention_days'?"
    assert found[2].startswith("antiphon.toml: zzz: no such setting; remove it")
    assert found[3] == "antiphon.toml: [[upstream]] #1 key: no such setting; did you mean 'keys'?"


def test_tables_of_the_wrong_shape_are_refused(config: Write) -> None:
    config("server = 3\nupstream = {name = 'a'}\n")
    assert problems() == [
        "antiphon.toml: server: must be a table; write [server] and its settings below.",
        "antiphon.toml: upstream: must be an array of tables; write [[upstream]].",
    ]


def test_secrets_in_the_file_are_references(config: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n", encoding="utf-8")
    config(f"[storage]\ndatabase_url = 'env:DB'\nsecret_key = 'file:{tmp_path}/secret'\n")
    storage = load_settings(environ={"DB": POSTGRES}).storage
    assert storage.url == "postgresql+psycopg://team:pa55word@db.internal/antiphon"
    assert storage.secret_key is not None
    assert storage.secret_key.get_secret_value() == SECRET


@pytest.mark.parametrize("literal", [SECRET, f"env:{SECRET}", f"file:{SECRET}", "env:"])
def test_a_literal_secret_in_the_file_is_refused_unseen(config: Write, literal: str) -> None:
    config(
        f"[storage]\nsecret_key = '{literal}'\n"
        f"[[upstream]]\nname = 'a'\nbase_url = 'https://a.example'\nkeys = ['{literal}']\n"
    )
    assert problems() == [
        "antiphon.toml: [storage] secret_key: must be a reference, env:NAME or file:/path, never the secret itself.",
        "antiphon.toml: [[upstream]] #1 keys: must be a reference, env:NAME or file:/path, never the secret itself.",
    ]


def test_a_literal_secret_in_the_file_is_refused_even_where_a_variable_wins(config: Write) -> None:
    config(f"[storage]\nsecret_key = '{SECRET}'\n")
    assert "must be a reference" in problem({"ANTIPHON_SECRET_KEY": "x" * 16})


def test_a_key_with_a_line_break_in_its_name_still_makes_one_line(config: Write) -> None:
    config('[server]\n"a\\nb" = 1\n')
    assert problem().startswith("antiphon.toml: [server] a b: no such setting")


# Upstreams


def upstream_file(config: Write, line: str) -> None:
    config(f"[[upstream]]\nname = 'a'\nbase_url = 'https://a.example/v1'\n{line}\n")


def test_an_upstream_has_quiet_defaults(config: Write) -> None:
    config("[[upstream]]\nname = 'a'\nbase_url = 'https://a.example/v1//'\n")
    assert load_settings(environ={}).upstreams == (UpstreamSettings(name="a", base_url="https://a.example/v1"),)
    (upstream,) = load_settings(environ={}).upstreams
    assert (upstream.keys, upstream.models, upstream.strip, upstream.state) == ((), ("*",), (), "gateway")


def test_one_reference_may_give_several_keys(config: Write, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" k3 \n", encoding="utf-8")
    upstream_file(config, f"keys = ['env:KEYS', 'file:{tmp_path}/key']")
    (upstream,) = load_settings(environ={"KEYS": "k1, k2,"}).upstreams
    assert [key.get_secret_value() for key in upstream.keys] == ["k1", "k2", "k3"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("keys = 'env:A'", "keys: must be a list of references"),
        ("keys = [3]", "keys: must be a reference"),
        ("keys = ['env:UNSET']", "keys: the environment variable UNSET is not set"),
        ("keys = ['env:COMMA']", "keys: holds no key"),
        ("keys = ['env:SPACED']", "keys: a key must be printable ASCII"),
        ("keys = ['env:A', 'env:A']", "keys: the same key is listed twice"),
        ("keys = ['file:/nonexistent/key']", "keys: cannot read /nonexistent/key: No such file"),
        ("models = []", "models: Tuple should have at least 1 item"),
        ("models = ['a', 3]", "models 1: Input should be a valid string"),
        ("strip = ['a.b']", "strip 0: String should match pattern"),
        ("state = 'both'", "state: Input should be 'gateway' or 'upstream'"),
    ],
)
def test_a_wrong_upstream_value_is_named(config: Write, line: str, words: str) -> None:
    upstream_file(config, line)
    found = problem({"A": SECRET, "COMMA": ",", "SPACED": f"{SECRET} {SECRET}"})
    assert found.startswith(f"antiphon.toml: [[upstream]] #1 {words}")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example",
        "a.example/v1",
        "https://",
        "https://u:pa55word@a.example",
        "https://a.example?key=pa55word",
        "https://a.example#x",
        "https://a.example/a b",
        "https://a.example:pa55word",
    ],
)
def test_a_base_url_must_be_plain(url: str) -> None:
    assert problem({"OPENAI_BASE_URL": url}).startswith("OPENAI_BASE_URL: ")


def test_an_upstream_needs_a_good_name_and_a_url(config: Write) -> None:
    config("[[upstream]]\nname = 'Not Good'\n")
    found = problems()
    assert found[0].startswith("antiphon.toml: [[upstream]] #1 name: String should match pattern")
    assert found[1] == "antiphon.toml: [[upstream]] #1 base_url: Field required."


def test_upstream_names_are_unique(config: Write) -> None:
    row = "[[upstream]]\nname = 'a'\nbase_url = 'https://a.example'\n"
    config(row + row)
    assert problem().startswith("antiphon.toml: [[upstream]] #2: the upstream name 'a' is taken; ")


def test_the_openai_variables_make_the_last_upstream(config: Write) -> None:
    upstream_file(config, "")
    first, last = load_settings(environ={"OPENAI_API_KEY": "k1,k2"}).upstreams
    assert first.name == "a"
    assert (last.name, last.base_url, last.models) == ("openai", "https://api.openai.com/v1", ("*",))
    assert [key.get_secret_value() for key in last.keys] == ["k1", "k2"]


def test_a_base_url_alone_makes_an_upstream_without_keys() -> None:
    (upstream,) = load_settings(environ={"OPENAI_BASE_URL": "http://localhost:11434/v1/"}).upstreams
    assert (upstream.name, upstream.base_url, upstream.keys) == ("openai", "http://localhost:11434/v1", ())


def test_the_openai_keys_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k1,k2\n", encoding="utf-8")
    (upstream,) = load_settings(environ={"OPENAI_API_KEY_FILE": str(tmp_path / "key")}).upstreams
    assert len(upstream.keys) == 2
    (tmp_path / "key").write_text("k 1", encoding="utf-8")
    assert problem({"OPENAI_API_KEY_FILE": str(tmp_path / "key")}).startswith("OPENAI_API_KEY_FILE: ")


def test_the_name_openai_cannot_be_taken_twice(config: Write) -> None:
    config("[[upstream]]\nname = 'openai'\nbase_url = 'https://a.example'\n")
    found = problem({"OPENAI_API_KEY": SECRET})
    assert found.startswith("OPENAI_API_KEY: the upstream name 'openai' is taken; ")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:8000/v1"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("localhost", "http://[::1]:8000/v1"),
        ("gateway.internal", "http://gateway.internal:8000/v1"),
    ],
)
def test_an_upstream_at_the_gateways_own_address_is_refused(host: str, url: str, config: Write) -> None:
    found = problem({"ANTIPHON_HOST": host, "OPENAI_BASE_URL": url})
    assert found.startswith("OPENAI_BASE_URL: is this gateway's own address")
    config(f"[[upstream]]\nname = 'a'\nbase_url = '{url}'\n")
    assert problem({"ANTIPHON_HOST": host}).startswith("antiphon.toml: [[upstream]] #1 base_url: is this gateway's own")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:8001/v1"),
        ("10.0.0.5", "http://127.0.0.1:8000/v1"),
        ("127.0.0.1", "http://vllm.internal:8000/v1"),
        ("127.0.0.1", "https://localhost/v1"),
        ("127.0.0.1", "http://localhost/v1"),
    ],
)
def test_an_upstream_elsewhere_is_no_loop(host: str, url: str) -> None:
    assert load_settings(environ={"ANTIPHON_HOST": host, "OPENAI_BASE_URL": url}).upstreams[0].base_url == url


# All at once


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


def test_the_example_file_loads() -> None:
    environ = {
        "ANTIPHON_CONFIG": str(ROOT / "antiphon.toml.example"),
        "OPENAI_KEY_BLUE": "k1",
        "OPENAI_KEY_GREEN": "k2",
        "OPENAI_API_KEY": "k3",
    }
    settings = load_settings(environ=environ)
    assert [(upstream.name, len(upstream.keys)) for upstream in settings.upstreams] == [
        ("openai-team", 2),
        ("ollama", 0),
        ("openai", 1),
    ]
    assert "truncation" in settings.upstreams[1].strip
