"""The config file: its tables, its references, its mistakes."""

from pathlib import Path

import pytest

from app.settings.gateway import load_settings
from tests.settings.problems import POSTGRES, SECRET, Write, problem, problems

ROOT = Path(__file__).parents[2]


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


def test_a_setting_that_was_removed_says_so_wherever_it_is_still_set(config: Write) -> None:
    config("[relay]\ntransport = 'native'\n[server]\ntransport = 1\n")
    found = problems({"ANTIPHON_TRANSPORT": "aiohttp"})
    assert found[0].startswith(
        "ANTIPHON_TRANSPORT: this setting was removed; upstreams are reached by the gateway's own "
    )
    assert found[1].startswith("antiphon.toml: [relay] transport: this setting was removed; ")
    assert found[2].startswith("antiphon.toml: [server] transport: no such setting; ")
    assert all(line.endswith("so remove it.") for line in found[:2])


def test_broken_toml_is_reported_with_its_line(config: Write) -> None:
    config("[server]\nport = \n")
    assert "is not valid TOML" in problem()
    assert "line 2" in problem()


def test_unknown_tables_and_keys_are_refused_with_suggestions(config: Write) -> None:
    config(
        "[servr]\nport = 1\n[storage]\nretention_day = 3\n[zzz]\n"
        "[[upstream]]\nname = 'a'\nbase_url = 'https://a.example'\nmodel = []\n"
    )
    found = problems()
    assert found[0] == "antiphon.toml: servr: no such setting; did you mean 'server'?"
    assert found[1] == "antiphon.toml: [storage] retention_day: no such setting; did you mean 'retention_days'?"
    assert found[2].startswith("antiphon.toml: zzz: no such setting; remove it")
    assert found[3] == "antiphon.toml: [[upstream]] #1 model: no such setting; did you mean 'models'?"


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
    assert storage.url == POSTGRES
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


def test_the_example_file_loads() -> None:
    environ = {
        "ANTIPHON_CONFIG": str(ROOT / "antiphon.toml.example"),
        "OPENAI_KEY_BLUE": "k1",
        "OPENAI_KEY_GREEN": "k2",
        "OPENAI_KEY_BACKUP": "k3",
        "OPENAI_API_KEY": "k4",
        "DEEPSEEK_KEY": "k5",
    }
    settings = load_settings(environ=environ)
    assert [(upstream.name, len(upstream.keys)) for upstream in settings.upstreams] == [
        ("openai-team", 3),
        ("ollama", 0),
        ("deepseek", 1),
        ("vllm", 0),
        ("openai", 1),
    ]
    assert settings.upstreams[3].chat is not None
    assert "truncation" in settings.upstreams[1].strip
