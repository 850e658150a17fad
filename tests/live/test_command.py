"""The `antiphon` command as an operator types it: settings, schema, keys, projects, health."""

import asyncio
import re
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from openai import AuthenticationError
from typer.testing import CliRunner

from app import __version__
from app.__main__ import cli
from app.security.key_ring import KeyRing
from tests.fakes.founded import found
from tests.fakes.gateway import SECRET, GatewayProcess
from tests.fakes.ports import free_port

pytestmark = pytest.mark.live

BAD_KEY = "sk-written in the wrong place"


@pytest.fixture
def command(tmp_path: Path) -> GatewayProcess:
    """The command in a folder of its own; nothing serves."""
    return GatewayProcess(tmp_path, {})


@pytest.fixture
def founded(command: GatewayProcess) -> GatewayProcess:
    """The same, in a folder where a gateway has been started before."""
    asyncio.run(found(f"sqlite:///{command.data_dir}/antiphon.db", KeyRing(SECRET)))
    return command


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that serves the demo model, on a port that its other commands know too."""
    port = free_port()
    gateway = GatewayProcess(tmp_path, {"ANTIPHON_PORT": str(port)}, port)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def refusal(command: GatewayProcess, *arguments: str, **environment: str) -> list[str]:
    """The lines with which the command ends, having done nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env={**command._environment, "ANTIPHON_LOG_LEVEL": "warning", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done
    assert all(line.startswith("antiphon: ") for line in lines), done.stderr
    assert done.stdout == ""
    assert BAD_KEY not in done.stderr
    return [line.removeprefix("antiphon: ") for line in lines]


def served(gateway: GatewayProcess, key: str) -> str:
    with gateway.client(key) as client:
        return client.responses.create(model="demo", input="My city is Utrecht.").status or ""


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def test_version_is_the_packages(command: GatewayProcess) -> None:
    assert command.run("version") == f"{__version__}\n"


def test_good_settings_are_checked_without_a_trace(command: GatewayProcess) -> None:
    assert command.run("serve", "--check-config") == "The settings are valid.\n"
    assert not command.data_dir.exists()


@pytest.mark.parametrize("arguments", [("serve", "--check-config"), ("serve",), ("keys", "list")])
def test_bad_settings_are_all_told_in_a_line_each(command: GatewayProcess, arguments: tuple[str, ...]) -> None:
    lines = refusal(
        command,
        *arguments,
        ANTIPHON_PORT="many",
        ANTIPHON_PROT="1",
        ANTIPHON_RETENTION_DAYS="0",
        ANTIPHON_LOG_LEVEL="loud",
        DATABASE_URL="mysql://root@db/x",
        OPENAI_API_KEY=BAD_KEY,
    )
    assert sorted(line.split(":")[0].split(" ")[0] for line in lines) == [
        "ANTIPHON_LOG_LEVEL",
        "ANTIPHON_PORT",
        "ANTIPHON_PROT",
        "ANTIPHON_RETENTION_DAYS",
        "DATABASE_URL",
        "OPENAI_API_KEY",
    ]
    assert not command.data_dir.exists()


def test_more_workers_than_sqlite_takes_are_refused(command: GatewayProcess) -> None:
    (line,) = refusal(command, "serve", "--workers", "2")
    assert "SQLite serves one process" in line
    assert not command.data_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "secret"), [(("serve",), ""), (("serve",), "a secret of sixteen characters"), (("keys", "list"), "")]
)
@pytest.mark.slow
def test_a_data_folder_that_cannot_be_made_is_told_in_a_line(
    command: GatewayProcess, arguments: tuple[str, ...], secret: str
) -> None:
    command.data_dir.write_text("a file where the folder should be")
    (line,) = refusal(command, *arguments, ANTIPHON_SECRET_KEY=secret)
    assert str(command.data_dir) in line


@pytest.mark.slow
def test_the_schema_is_checked_and_brought_up_to_date(command: GatewayProcess) -> None:
    (line,) = refusal(command, "migrate", "--check")
    assert line == "the database needs `antiphon migrate`"
    before, arrow, after = command.run("migrate").removeprefix("schema ").split()
    assert (before, arrow) == ("none", "->")
    assert command.run("migrate") == f"schema {after} -> {after}\n"
    assert command.run("migrate", "--check") == "The schema is current.\n"


@pytest.mark.slow
def test_projects_are_created_once_and_listed(founded: GatewayProcess) -> None:
    created = founded.run("projects", "create", "research", "--retention-days", "7").strip()
    assert refusal(founded, "projects", "create", "research") == ["There is already a project named 'research'."]
    listed = [line.split() for line in founded.run("projects", "list").splitlines()]
    assert [line[1:4] for line in listed if line[0] == created] == [["research", "7", "days"]]
    assert listed[0][:2] == ["ID", "NAME"]
    assert {line[1] for line in listed[1:]} == {"research", "default"}


def test_a_retention_of_more_than_a_century_is_refused(command: GatewayProcess) -> None:
    # So long that the day of the expiry would fit no column.
    create = ["projects", "create", "eternal", "--retention-days", "1000000000000000"]
    done = CliRunner().invoke(cli, create, env=command._environment)
    assert done.exit_code == 2
    assert "--retention-days" in done.stderr
    assert not command.data_dir.exists()


@pytest.mark.slow
def test_a_key_is_for_a_project_that_there_is(founded: GatewayProcess) -> None:
    (line,) = refusal(founded, "keys", "create", "--name", "x", "--project", "nowhere")
    assert line.startswith("There is no project named 'nowhere'.")
    (line,) = refusal(founded, "keys", "revoke", "key_unknown")
    assert line.startswith("API key with id 'key_unknown' not found.")


@pytest.mark.slow
def test_a_key_created_beside_a_running_gateway_works_at_once_until_it_is_revoked(serving: GatewayProcess) -> None:
    created = serving.run("keys", "create", "--name", "laptop").splitlines()
    key = created[-1]
    assert key.startswith("sk-aph_")
    assert served(serving, key) == "completed"
    listed = serving.run("keys", "list")
    assert key not in listed
    assert serving.key not in listed
    (line,) = [line for line in listed.splitlines() if line.endswith("laptop")]
    key_id, hint, state, *_ = line.split()
    assert (hint, state) == (f"…{key[-4:]}", "active")
    for _ in range(2):
        assert serving.run("keys", "revoke", key_id) == f"{key_id} is revoked.\n"
    assert f"…{key[-4:]}  revoked" in serving.run("keys", "list")


@pytest.mark.slow
def test_a_revoked_key_is_not_served_after_a_restart(serving: GatewayProcess) -> None:
    listed = orjson.loads(serving.run("keys", "list", "--json"))["data"]
    (first,) = [key["id"] for key in listed if key["name"] == "first"]
    serving.run("keys", "revoke", first)
    serving.stop()
    serving.start()
    with pytest.raises(AuthenticationError):
        served(serving, serving.key)


def test_health_is_told_by_the_exit_status(serving: GatewayProcess) -> None:
    assert '"status":"ready"' in serving.run("healthcheck")
    serving.stop()
    (line,) = refusal(serving, "healthcheck")
    assert line.startswith("no gateway answers on 127.0.0.1:")


@pytest.mark.slow
def test_a_gateway_whose_database_has_an_older_schema_is_not_healthy(serving: GatewayProcess) -> None:
    with closing(sqlite3.connect(serving.data_dir / "antiphon.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0'")
    # What readiness found holds for a second.
    time.sleep(1.1)
    (line,) = refusal(serving, "healthcheck")
    assert line.startswith("not ready: ")
    assert "run `antiphon migrate`" in line


@pytest.mark.slow
def test_what_the_first_start_writes_is_its_owners_alone(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"ANTIPHON_SECRET_KEY": ""})
    try:
        gateway.start()
        assert mode(gateway.data_dir) == "drwx------"
        files = {path.name: mode(path) for path in gateway.data_dir.iterdir()}
        assert {"antiphon.db", "first-api-key", "secret.key"} <= files.keys()
        assert set(files.values()) == {"-rw-------"}, files
        first = gateway.key
        assert first not in gateway.banner.read_text()
        assert served(gateway, first) == "completed"
        gateway.stop()
        gateway.start()
        assert first not in gateway.banner.read_text()
        assert gateway.key == first
        assert served(gateway, first) == "completed"
    finally:
        gateway.stop()


@pytest.mark.slow
def test_a_start_on_a_current_database_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"PYTHONPROFILEIMPORTTIME": "1"})
    try:
        gateway.start()
        gateway.stop()
        gateway.start()
        assert served(gateway, gateway.key) == "completed"
        loaded = re.findall(r"^import time: .*\| +(\S+)$", gateway.banner.read_text(), re.MULTILINE)
        assert "fastapi" in loaded
        unused = ("alembic.", "psycopg.", "redis.")
        assert [name for name in loaded if name.startswith(unused)] == []
    finally:
        gateway.stop()


def test_a_start_without_a_package_that_a_setting_needs_says_in_one_line_what_to_do(command: GatewayProcess) -> None:
    hidden = command.data_dir.parent / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text('import sys\n\nsys.modules["redis"] = None\n')
    environment = {"ANTIPHON_LIMITS_URL": "redis://127.0.0.1:9", "PYTHONPATH": str(hidden)}
    (line,) = refusal(command, "serve", "--port", "0", **environment)
    assert line.startswith("ANTIPHON_LIMITS_URL: ")
    assert f"{sys.executable} -m pip install 'antiphon[redis]'" in line


@pytest.mark.slow
def test_a_second_gateway_on_one_data_folder_is_refused(serving: GatewayProcess) -> None:
    (line,) = refusal(serving, "serve", "--port", "0")
    assert line.startswith("Another gateway is serving from ")
    assert "ANTIPHON_DATA_DIR" in line
    assert served(serving, serving.key) == "completed"


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(serving: GatewayProcess, tmp_path: Path) -> None:
    other = GatewayProcess(tmp_path / "other", {})
    port = serving.url.rpartition(":")[2]
    (line,) = refusal(other, "serve", "--port", port)
    assert line.startswith(f"Cannot listen on 127.0.0.1:{port} ")


@pytest.mark.slow
def test_a_changed_secret_is_refused_with_both_fingerprints(founded: GatewayProcess) -> None:
    founded.run("keys", "create", "--name", "x")
    other = "another secret of sixteen characters"
    for arguments in (("serve",), ("keys", "list"), ("keys", "create", "--name", "y")):
        (line,) = refusal(founded, *arguments, ANTIPHON_SECRET_KEY=other)
        made, given = line.rstrip(".").rpartition("The database was made with ")[2].split(", this secret is ")
        assert len({made, given}) == 2
        assert {len(made), len(given)} == {16}
        assert other not in line
    assert len(founded.run("keys", "list").splitlines()) == 2


def test_the_command_in_the_readme_is_installed() -> None:
    script = Path(sys.executable).with_name("antiphon")
    done = subprocess.run([script, "version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == __version__
