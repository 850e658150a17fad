"""Upstreams, from the config file and from the OpenAI variables."""

from pathlib import Path

import pytest

from app.settings.gateway import load_settings
from app.settings.upstreams import UpstreamSettings
from tests.settings.problems import SECRET, Write, problem, problems


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
    assert [key.secret.get_secret_value() for key in upstream.keys] == ["k1", "k2", "k3"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("keys = 'env:A'", "keys: must be a list of references"),
        ("keys = [{secret = 'env:A', weight = 0}]", "keys #1 weight: Input should be greater than 0"),
        ("keys = ['env:A', {secret = 'env:B', tier = -1}]", "keys #2 tier: Input should be greater than or equal to 0"),
        ("keys = [{weight = 2}]", "keys #1 secret: Field required"),
        ("keys = [{secret = 'sk-very-secret-0123456789'}]", "keys #1 secret: must be a reference"),
        ("keys = [{secret = 'env:SPACED', name = 'a'}]", "keys #1 secret: a key must be printable ASCII"),
        ("key = 'env:A'", "[[upstream.key]]: must be an array of tables"),
        ("[[upstream.key]]\nsecret = 'env:A'\nconcurrency = 0", "[[upstream.key]] #1 concurrency: Input should be"),
        ("[[upstream.key]]\nsecret = 'env:A'\nrpm = 5", "[[upstream.key]] #1 rpm: no such setting"),
        ("[[upstream.key]]\nsecret = 'env:A'\nproject = 'a b'", "[[upstream.key]] #1 project: String should match"),
        ("keys = ['env:A']\n[[upstream.key]]\nsecret = 'env:A'", "keys: the same key is listed twice"),
        ("tier = -1", "tier: Input should be greater than or equal to 0"),
        ("aliases = {a = 3}", "aliases a: Input should be a valid string"),
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
    found = problem({"A": SECRET, "B": f"{SECRET}-b", "COMMA": ",", "SPACED": f"{SECRET} {SECRET}"})
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


def test_a_key_may_be_a_table_with_what_is_known_of_it(config: Write) -> None:
    upstream_file(
        config,
        """tier = 3
aliases = {fast = "gpt-5-mini"}
keys = ["env:A", {secret = "env:B", weight = 2.5}]
[[upstream.key]]
secret = "env:C"
name = "research"
tier = 1
organization = "org-1"
project = "proj-1"
requests_per_minute = 500
tokens_per_minute = 200000
concurrency = 8
quota_group = "org"
""",
    )
    (upstream,) = load_settings(environ={"A": "k1", "B": "k2,k3", "C": "k4"}).upstreams
    assert (upstream.tier, upstream.aliases) == (3, {"fast": "gpt-5-mini"})
    assert [(key.secret.get_secret_value(), key.weight, key.tier) for key in upstream.keys] == [
        ("k1", 1.0, None),
        ("k2", 2.5, None),
        ("k3", 2.5, None),
        ("k4", 1.0, 1),
    ]
    last = upstream.keys[-1]
    assert (last.name, last.organization, last.project, last.quota_group) == ("research", "org-1", "proj-1", "org")
    assert (last.requests_per_minute, last.tokens_per_minute, last.concurrency) == (500, 200_000, 8)


def test_every_mistake_in_a_key_is_told_at_once(config: Write) -> None:
    upstream_file(
        config, "[[upstream.key]]\nsecret = 'env:A'\nweight = -1\ncolour = 1\n[[upstream.key]]\nsecret = 'env:B'\n"
    )
    found = problems({"A": SECRET})
    assert [line.partition(":")[2].partition(":")[0].strip() for line in found] == [
        "[[upstream]] #1 [[upstream.key]] #1 colour",
        "[[upstream]] #1 [[upstream.key]] #2 secret",
    ]


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
    assert [key.secret.get_secret_value() for key in last.keys] == ["k1", "k2"]


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


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("", [False, False]),
        ("endpoints = ['compact']", [True, False]),
        ("endpoints = ['input_tokens', 'compact']", [True, True]),
        ("endpoints = []", [False, False]),
    ],
)
def test_an_upstream_offers_the_endpoints_it_is_said_to(line: str, offered: list[bool], config: Write) -> None:
    upstream_file(config, line)
    (upstream,) = load_settings(environ={}).upstreams
    assert [upstream.offers("compact"), upstream.offers("input_tokens")] == offered


def test_openai_offers_every_endpoint_unless_told_otherwise() -> None:
    openai = UpstreamSettings(name="openai", base_url="https://api.openai.com/v1")
    assert openai.offers("compact")
    assert openai.offers("input_tokens")
    assert not openai.model_copy(update={"endpoints": ()}).offers("compact")


def test_an_endpoint_that_nobody_knows_is_refused(config: Write) -> None:
    upstream_file(config, "endpoints = ['embeddings']")
    assert "endpoints" in problem({})


def test_what_a_chat_server_takes_is_said_in_a_table_of_its_own(config: Write) -> None:
    upstream_file(config, 'api = "chat"\n[upstream.chat]\nsystem_role = "developer"\nextra_body = {top_k = 5}')
    said = load_settings(environ={}).upstreams[0].chat
    assert said is not None
    assert said.given() == {"system_role": "developer", "extra_body": {"top_k": 5}}


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('[upstream.chat]\nsystem_role = "developer"', "chat"),
        ('api = "chat"\nstate = "upstream"', "state"),
        ('api = "chat"\nendpoints = ["compact"]', "endpoints"),
        ('api = "chat"\n[upstream.chat]\nsystem_role = "boss"', "chat system_role"),
        ('api = "chat"\n[upstream.chat]\nnone_such = 1', "chat none_such"),
        ('api = "completions"', "api"),
    ],
)
def test_what_does_not_fit_the_api_is_refused(lines: str, named: str, config: Write) -> None:
    upstream_file(config, lines)
    assert named in problem({})


def test_openai_behind_chat_has_no_further_endpoints(config: Write) -> None:
    config('[[upstream]]\nname = "o"\nbase_url = "https://api.openai.com/v1"\napi = "chat"\n')
    assert not load_settings(environ={}).upstreams[0].offers("compact")
