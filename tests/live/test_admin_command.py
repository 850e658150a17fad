"""The administration as an operator types it: each verb, its table, its JSON, its refusals."""

import asyncio
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from app.__main__ import cli, main
from app.cli.console import operator
from app.security.key_ring import KeyRing
from tests.fakes.founded import found

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]


class Command:
    """The command in this process: a start of the interpreter for each verb would take a second each."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def run(self, *arguments: str, given: str | None = None, status: int = 0, **variables: str) -> str:
        done = CliRunner().invoke(cli, arguments, env={**self._environment, **variables}, input=given)
        assert done.exit_code == status, (done.output, done.exception)
        self.told = done.stderr
        return done.stdout

    def json(self, *arguments: str, **options: Any) -> Any:
        return orjson.loads(self.run(*arguments, "--json", **options))

    def table(self, *arguments: str) -> list[list[str]]:
        return [line.split() for line in self.run(*arguments).splitlines()]


@pytest.fixture
def command(tmp_path: Path, database_url: str) -> Command:
    cleared = {name: "" for name in os.environ if name.startswith(("ANTIPHON_", "OPENAI_"))}
    secret = "a secret of sixteen characters"
    asyncio.run(found(database_url, KeyRing(secret.encode())))
    environment = {"ANTIPHON_SECRET_KEY": secret, "ANTIPHON_DATA_DIR": str(tmp_path)}
    return Command({**cleared, **environment, "DATABASE_URL": database_url})


def test_projects_are_created_listed_shown_and_updated(command: Command) -> None:
    made = command.run("projects", "create", "team", "--rpm", "60", "--model", "gpt-*").strip()
    shown = command.json("projects", "show", "team")
    assert (shown["id"], shown["policy"]["models"]) == (made, ["gpt-*"])
    assert shown["policy"]["limits"]["requests_per_minute"] == 60
    assert [made, "team"] in [line[:2] for line in command.table("projects", "list")]
    budgets = ["--budget", "day:tokens=1000", "--budget", "day:usd=2.5", "--budget", "month:usd=50"]
    changed = command.json("projects", "update", "team", "--rpm", "0", *budgets, "--retention-days", "3")
    assert changed["policy"]["limits"]["requests_per_minute"] is None
    assert changed["policy"]["limits"]["budgets"] == [
        {"period": "day", "tokens": 1000, "usd": 2.5},
        {"period": "month", "tokens": None, "usd": 50.0},
    ]
    assert (changed["policy"]["models"], changed["retention_days"], changed["version"]) == (["gpt-*"], 3, 2)
    assert command.json("projects", "update", made, "--budget", "none")["policy"]["limits"]["budgets"] == []
    assert len(command.json("projects", "list")["data"]) == 2


def test_keys_are_created_listed_shown_updated_rotated_blocked_and_revoked(command: Command) -> None:
    command.run("projects", "create", "team")
    options = ["--owner", "ada", "--tag", "ci", "--scope", "responses", "--scope", "models", "--address", "10.0.0.0/8"]
    key = command.run("keys", "create", "--name", "laptop", "--project", "team", *options, "--expires", "90d").strip()
    assert key.startswith("sk-aph_")
    assert "is not shown again" in command.told
    (listed,) = command.json("keys", "list", "--project", "team")["data"]
    assert (listed["owner"], listed["tags"], listed["hint"], listed["state"]) == ("ada", ["ci"], key[-4:], "active")
    assert listed["policy"]["scopes"] == ["responses", "models"]
    key_id = listed["id"]
    assert command.table("keys", "list")[1][:4] == [key_id, f"…{key[-4:]}", "active", "ada"]
    changed = command.json("keys", "update", key_id, "--name", "desk", "--tpm", "5000", "--scope", "usage")
    assert (changed["name"], changed["tags"], changed["policy"]["scopes"]) == ("desk", ["ci"], ["usage"])
    assert changed["policy"]["addresses"] == ["10.0.0.0/8"]
    rotated = command.json("keys", "rotate", key_id, "--overlap-hours", "2")
    assert rotated["key"] != key
    assert command.json("keys", "block", key_id)["state"] == "blocked"
    assert command.run("keys", "unblock", key_id) == f"{key_id} is not blocked any more.\n"
    assert command.run("keys", "revoke", key_id) == f"{key_id} is revoked.\n"
    shown = command.run("keys", "show", key_id)
    assert "revoked" in shown
    assert key not in shown + command.run("keys", "list") + command.run("audit")


def test_what_was_given_is_taken_away_again(command: Command) -> None:
    options = ["--owner", "ada", "--tag", "ci", "--address", "10.0.0.0/8", "--expires", "90d", "--rpm", "5"]
    made = command.json("keys", "create", "--name", "laptop", *options)
    assert made["expires_at"] > made["created_at"]
    none = ["--owner", "none", "--tag", "none", "--address", "none", "--expires", "none", "--rpm", "0"]
    bare = command.json("keys", "update", made["id"], *none)
    assert (bare["owner"], bare["tags"], bare["expires_at"], bare["policy"]["addresses"]) == (None, [], None, [])
    assert bare["policy"]["limits"]["requests_per_minute"] is None
    # Without an option there is no change, and no record of one.
    assert command.json("keys", "update", made["id"]) == bare
    assert len(command.json("audit", "--subject", made["id"])["data"]) == 2
    command.run("projects", "create", "team", "--retention-days", "3")
    renamed = command.json("projects", "update", "team", "--name", "crew", "--retention-days", "0")
    assert (renamed["name"], renamed["retention_days"]) == ("crew", None)


def test_a_project_is_erased_with_its_keys(command: Command) -> None:
    command.run("projects", "create", "team", "--conversation-days", "9")
    shown = command.json("projects", "show", "team")
    assert (shown["conversation_days"], shown["erasing_at"]) == (9, None)
    command.run("keys", "create", "--name", "laptop", "--project", "team")
    assert command.run("projects", "erase", "team") == f"team ({shown['id']}) is erased.\n"
    assert command.json("keys", "list")["data"] == []
    command.run("projects", "show", "team", status=1)
    command.run("projects", "erase", "team", status=1)
    actions = [record["action"] for record in command.json("audit", "--subject", shown["id"])["data"]]
    assert actions == ["project.erased", "project.erase", "project.create"]


def test_the_log_says_who_typed_it_and_not_who_they_say_they_are(command: Command) -> None:
    said = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER", "SUDO_UID"), "ceo")
    made = command.json("projects", "create", "team", **said)
    (record,) = command.json("audit", "--subject", made["id"])["data"]
    assert record["action"] == "project.create"
    assert record["actor"] == operator().name
    assert pwd.getpwuid(os.getuid()).pw_name in record["actor"]
    assert "ceo" not in record["actor"]
    assert command.table("audit")[0][0] == "ID"


@pytest.mark.parametrize(
    ("login", "told"),
    [
        ("4294967295", ""),
        ("{own}\n", ""),
        ("", ""),
        ("{other}\n", ", logged in as user {other}"),
    ],
)
def test_who_logged_in_as_another_is_told_too(tmp_path: Path, login: str, told: str) -> None:
    names = {"own": os.getuid(), "other": 2**31 - 7}
    file = tmp_path / "loginuid"
    file.write_text(login.format(**names))
    own = pwd.getpwuid(os.getuid()).pw_name
    assert operator(file).name == f"command line ({own}{told.format(**names)})"
    assert operator(tmp_path / "none").name == f"command line ({own})"


def test_a_long_list_says_how_to_go_on(command: Command) -> None:
    made = [command.json("keys", "create", "--name", f"key {number}")["id"] for number in range(3)]
    page = command.json("keys", "list", "--limit", "2")
    assert (page["has_more"], page["last_id"]) == (True, page["data"][1]["id"])
    command.run("keys", "list", "--limit", "2")
    assert command.told == f"More follow: add --after {page['last_id']}\n"
    rest = command.json("keys", "list", "--after", page["last_id"])
    assert not rest["has_more"]
    assert sorted(key["id"] for key in (*page["data"], *rest["data"])) == sorted(made)


def test_usage_is_a_table_a_sheet_or_json(command: Command) -> None:
    assert command.table("usage", "--since", "7d", "--by", "day,key")[0][:3] == ["BEGINS", "KEY", "REQUESTS"]
    assert command.run("usage", "--csv").startswith("begins,project_id,api_key_id,model,")
    assert command.json("usage", "--since", "2026-01-01", "--until", "2026-02-01T12:30")["data"] == []


def test_calls_are_a_table_or_json(command: Command) -> None:
    assert command.table("calls", "--since", "7d", "--project", "default")[0][:4] == ["AT", "(UTC)", "KEY", "MODEL"]
    assert command.json("calls", "--after", "7", "--limit", "1")["data"] == []


def test_upstreams_are_added_updated_and_removed(command: Command) -> None:
    assert [line[0] for line in command.table("upstreams", "list")] == ["ACCOUNT", "demo/none"]
    address = ["--base-url", "https://api.openai.com/v1"]
    made = command.json("upstreams", "add", "main", *address, "--model", "gpt-*", "--alias", "fast=gpt-5-mini")
    assert (made["models"], made["aliases"], made["version"]) == (["gpt-*"], {"fast": "gpt-5-mini"}, 1)
    bare = command.json("upstreams", "update", "main", "--alias", "none", "--endpoint", "compact")
    assert (bare["aliases"], bare["endpoints"], bare["version"]) == ({}, ["compact"], 2)
    changed = command.json("upstreams", "update", "main", "--tier", "2", "--strip", "service_tier")
    assert (changed["models"], changed["tier"], changed["strip"], changed["version"]) == (
        ["gpt-*"],
        2,
        ["service_tier"],
        3,
    )
    gone = command.json("upstreams", "remove", "main")
    assert gone == {"object": "upstream.deleted", "name": "main", "deleted": True}
    assert [each["name"] for each in command.json("upstreams", "list")["data"]] == ["demo"]


def test_an_upstreams_key_is_read_from_where_no_other_process_sees_it(command: Command, tmp_path: Path) -> None:
    command.run("upstreams", "add", "main", "--base-url", "https://api.openai.com/v1")
    (tmp_path / "key").write_text("sk-from-a-file-0123456789\n")
    piped = command.json("upstreams", "add-key", "main", "--name", "piped", given="sk-from-a-pipe-0123456789\n")
    command.run("upstreams", "add-key", "main", "--name", "filed", "--from-file", str(tmp_path / "key"))
    command.run(
        "upstreams", "add-key", "main", "--from-env", "MAIN_KEY", "--rpm", "9", MAIN_KEY="sk-of-the-environment"
    )
    (main,) = command.json("upstreams", "list")["data"]
    hints = {account["key_name"]: account["hint"] for account in main["accounts"]}
    assert hints == {"piped": "6789", "filed": "6789", None: "ment"}
    for account, verb, state in zip(
        main["accounts"], ("drain", "disable", "enable"), ("draining", "disabled", "usable"), strict=True
    ):
        assert command.json("upstreams", verb, account["name"])["name"] == account["name"]
        (main,) = command.json("upstreams", "list")["data"]
        assert state in {each["state"] for each in main["accounts"] if each["name"] == account["name"]}
    assert command.run("upstreams", "remove-key", "main", piped["id"]) == f"{piped['id']} is removed.\n"
    for shown in (command.run("upstreams", "list"), command.run("audit", "--json")):
        assert not any(secret in shown for secret in ("sk-from-a-pipe", "sk-from-a-file", "sk-of-the-environment"))


def test_an_account_is_tested_from_here(command: Command) -> None:
    assert command.json("upstreams", "test", "demo/none")["ok"]


def test_settings_are_shown_with_their_sources_and_no_secret(command: Command) -> None:
    settings = {each["name"]: each for each in command.json("settings", ANTIPHON_PORT="8123")["data"]}
    assert (settings["server.port"]["value"], settings["server.port"]["source"]) == (8123, "ANTIPHON_PORT")
    assert (settings["storage.secret_key"]["value"], settings["server.host"]["source"]) == ("***", "default")
    assert command.table("settings")[0] == ["NAME", "VALUE", "SOURCE"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keys", "create", "--name", "x", "--scope", "root"), "There is no scope 'root'."),
        (("keys", "create", "--name", "x", "--budget", "day=5"), "'day=5' is no budget"),
        (("keys", "create", "--name", "x", "--expires", "soon"), "'soon' is no time"),
        (("usage", "--by", "user"), "There is no group 'user'."),
        (("usage", "--since", "yesterday"), "'yesterday' is no time"),
        (("keys", "list", "--limit", "101"), "--limit"),
        (("calls", "--after", str(2**70)), "--after"),
        (("keys", "create"), "Missing option '--name'."),
        (("nothing",), "No such command 'nothing'."),
        (("upstreams", "add", "x", "--base-url", "https://x.example", "--alias", "fast"), "'fast' is no alias"),
        (("upstreams", "add-key", "x", "--from-env", "NOT_THERE"), "NOT_THERE is not set."),
        (("upstreams", "add-key", "x", "--from-file", "/not/there"), "/not/there cannot be read"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(command: Command, arguments: tuple[str, ...], told: str) -> None:
    assert command.run(*arguments, status=2) == ""
    usage, _, _, mistake = command.told.splitlines()
    assert usage.startswith("Usage: ")
    assert mistake.startswith("Error: ")
    assert told in mistake


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keys", "show", "key_x"), "API key with id 'key_x' not found. `list` shows what there is."),
        (("keys", "create", "--name", "x", "--project", "nowhere"), "There is no project named 'nowhere'."),
        (("keys", "create", "--name", ""), "Invalid 'name': empty string."),
        (("keys", "create", "--name", "x", "--address", "here"), "Invalid 'policy.addresses[0]'"),
        (("upstreams", "drain", "nowhere/none"), "Account 'nowhere/none' not found."),
        (("upstreams", "update", "nowhere", "--tier", "1"), "Upstream 'nowhere' not found."),
        (("upstreams", "add", "x", "--base-url", "ftp://x.example"), "Invalid 'base_url': "),
        (("upstreams", "add", "x", "--base-url", "http://127.0.0.1:1/v1"), "Invalid 'base_url': "),
        (("upstreams", "add", "x", "--base-url", "https://x.example", "--tier", str(10**30)), "Invalid 'tier': "),
        (("upstreams", "add", "x", "--base-url", "https://x.example", "--model", "\udcff"), "Invalid 'models[0]': "),
        (("keys", "create", "--name", "a\nb"), "Invalid 'name': "),
        (("keys", "create", "--name", "x", "--expires", "2020-01-01"), "Invalid 'expires_at': "),
        (("projects", "show", "nowhere"), "There is no project named 'nowhere'."),
    ],
)
def test_a_mistake_is_told_in_a_line(
    command: Command, arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in command._environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["antiphon", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value).startswith(f"antiphon: {told}")
    assert "\n" not in str(ended.value)


def test_a_reader_that_has_enough_is_no_mistake_to_tell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "settings"]
    environment = {**os.environ, "ANTIPHON_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


def test_the_version_is_told_at_once() -> None:
    loads = "import sys, app.__main__; print(sorted({'fastapi', 'pydantic', 'sqlalchemy', 'httpx'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
