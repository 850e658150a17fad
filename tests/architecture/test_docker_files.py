"""What the image and the compose files promise: little privilege, one data folder, the product's own names."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from app import __version__
from app.__main__ import cli
from app.server.run import ENDING_SECONDS
from app.settings.gateway import Settings
from app.settings.server import ServerSettings
from app.settings.sources import CONFIG, OPENAI_KEY, OPENAI_KEY_FILE, OPENAI_URL, settings_of
from tests.fakes.gateway import GatewayProcess

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
OVERLAY = ROOT / "docker" / "compose.postgres.yaml"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

KNOWN_NAMES = {CONFIG, OPENAI_KEY, OPENAI_KEY_FILE, OPENAI_URL} | {
    name for setting in settings_of(Settings) for name in (setting.env, *([setting.env_file] if setting.secret else []))
}


def instructions(stage: int) -> list[tuple[str, str]]:
    """The instructions of one stage of the Dockerfile, stage 0 being what stands before the first FROM."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    stages: list[list[tuple[str, str]]] = [[]]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, arguments.strip()))
    return stages[stage]


def final(name: str) -> str:
    """The arguments of an instruction that stands once in the final stage."""
    (arguments,) = [arguments for found, arguments in instructions(-1) if found == name]
    return arguments


def final_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(final("ENV")))


def read_yaml(text: str) -> Any:
    """The YAML that the compose files keep to: nested mappings, lists of scalars, JSON lists, quoted strings."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return _block(lines)


def _block(lines: list[str]) -> Any:
    if not lines:
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    heads = [number for number, line in enumerate(lines) if len(line) - len(line.lstrip()) <= indent]
    parts = [(lines[a].strip(), lines[a + 1 : b]) for a, b in zip(heads, [*heads[1:], len(lines)], strict=True)]
    if lines[0].lstrip().startswith("- "):
        return [_scalar(head.removeprefix("- ")) for head, _ in parts]
    pairs = [(*head.partition(":")[::2], body) for head, body in parts]
    return {name: _scalar(value.strip()) if value else _block(body) for name, value, body in pairs}


def _scalar(text: str) -> Any:
    return orjson.loads(text) if text.startswith(("[", '"')) or text in {"true", "false"} else text


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(path.read_text())["services"]
    return found


@pytest.fixture
def gateway() -> Any:
    return services(COMPOSE)["gateway"]


def test_both_stages_start_from_the_base_image_that_the_build_names() -> None:
    assert [name for name, _ in instructions(0)] == ["ARG"]
    assert instructions(0)[0][1].startswith("BASE_IMAGE=python:3.")
    assert instructions(1)[0] == ("FROM", "${BASE_IMAGE} AS build")
    assert instructions(-1)[0] == ("FROM", "${BASE_IMAGE}")


def test_packages_are_wheels_of_the_lock_and_the_final_stage_installs_none() -> None:
    (install,) = [run for name, run in instructions(1) if name == "RUN" and "pip install" in run]
    for option in ("--require-hashes", "--only-binary :all:", "--no-cache-dir"):
        assert option in install
    locks = {path.name for path in LOCKS} - {"dev.txt"}
    assert set(re.findall(r"-r (\S+)", install)) == locks
    assert {("COPY", f"requirements/{name} ./") for name in locks} <= set(instructions(1))
    assert not re.search(r"\b(pip|apt|apt-get|curl|wget)\b", " ".join(run for _, run in instructions(-1)))


def test_the_image_runs_as_a_user_of_its_own_that_owns_only_the_data() -> None:
    assert final("USER") == "10001:10001"
    assert "install --directory --owner 10001 --group 10001 --mode 0700 /data" in final("RUN")
    assert not any("--chown" in arguments for name, arguments in instructions(-1) if name == "COPY")


def test_signals_reach_the_gateway_because_no_shell_stands_before_it() -> None:
    verbs = {command.callback.__name__ for command in cli.registered_commands if command.callback}
    assert orjson.loads(final("ENTRYPOINT")) == ["antiphon"]
    (serve,) = orjson.loads(final("CMD"))
    _, _, check = final("HEALTHCHECK").partition(" CMD ")
    program, healthcheck = orjson.loads(check)
    assert program == "antiphon"
    assert {serve, healthcheck} <= verbs


def test_the_launcher_in_the_image_calls_what_the_package_names() -> None:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["antiphon"]
    module, _, function = script.partition(":")
    (install,) = [run for name, run in instructions(1) if name == "RUN" and "venv/bin/antiphon" in run]
    assert f"from {module} import {function}" in install


def test_the_label_tells_the_version_of_the_source() -> None:
    assert ("ARG", f"VERSION={__version__}") in instructions(-1)
    assert 'image.version="${VERSION}"' in final("LABEL")


def test_only_what_the_image_copies_is_sent_to_the_build() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    sent = {line.removeprefix("!") for line in rest if line.startswith("!")}
    stages = (*instructions(1), *instructions(-1))
    copied = {
        arguments.split()[0] for name, arguments in stages if name == "COPY" and not arguments.startswith("--from")
    }
    assert sent == copied
    assert all((ROOT / name).exists() for name in copied)


def test_one_data_folder_is_meant_everywhere(gateway: Any) -> None:
    folder = final_environment()["ANTIPHON_DATA_DIR"]
    (mount,) = gateway["volumes"]
    assert (final("WORKDIR"), final("VOLUME"), mount.partition(":")[2]) == (folder, folder, folder)


def test_the_port_is_the_gateways_own_and_published_on_this_machine_only(gateway: Any) -> None:
    port = ServerSettings().port
    assert final("EXPOSE") == str(port)
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert not any("ports" in service for service in services(OVERLAY).values())


def test_the_files_use_no_name_that_the_settings_do_not_know(gateway: Any) -> None:
    used = [*gateway["environment"], *services(OVERLAY)["gateway"]["environment"]]
    used += [name for name in final_environment() if name not in {"PATH", "PYTHONDONTWRITEBYTECODE"}]
    assert {OPENAI_KEY, OPENAI_URL, "DATABASE_URL", "ANTIPHON_WORKERS", "ANTIPHON_HOST"} <= set(used)
    assert set(used) <= KNOWN_NAMES


def test_a_variable_that_is_not_set_stays_unset_in_the_container(gateway: Any) -> None:
    assert set(gateway["environment"].values()) == {None}


def test_the_container_may_write_its_data_and_a_temporary_folder_only(gateway: Any) -> None:
    assert gateway["read_only"] is True
    assert gateway["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in gateway
    assert "privileged" not in gateway


def test_the_container_is_not_killed_before_its_streams_had_their_time(gateway: Any) -> None:
    # The drain comes after the grace, the registry's ending after the drain, uvicorn's own graceful time after that.
    server = ServerSettings()
    needed = server.shutdown_grace_seconds + server.drain_seconds + 2 * ENDING_SECONDS
    assert float(gateway["stop_grace_period"].removesuffix("s")) > needed


def test_the_overlay_waits_for_a_database_that_has_no_default_password() -> None:
    overlay = services(OVERLAY)
    postgres = overlay["postgres"]
    assert overlay["gateway"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "pg_isready" in postgres["healthcheck"]["test"]
    for text in (postgres["environment"]["POSTGRES_PASSWORD"], overlay["gateway"]["environment"]["DATABASE_URL"]):
        assert "${POSTGRES_PASSWORD:?" in text
    assert re.fullmatch(r"postgres:\d+-alpine", postgres["image"])


def test_every_named_volume_is_declared() -> None:
    for path in (COMPOSE, OVERLAY):
        document = read_yaml(path.read_text())
        mounts = [mount for service in document["services"].values() for mount in service.get("volumes", [])]
        assert {mount.partition(":")[0] for mount in mounts} == set(document["volumes"])


@pytest.mark.parametrize("path", [DOCKERFILE, COMPOSE, OVERLAY, *LOCKS], ids=lambda path: path.name)
def test_no_registry_or_index_is_named(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host", text)
    images = re.findall(r"^(?:ARG BASE_IMAGE=|\s+image: )(\S+)$", text, re.MULTILINE)
    assert not [image for image in images if "/" in image]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[GatewayProcess]:
    # Nothing listens on the discard port, so what is sent to this proxy is refused.
    process = GatewayProcess(tmp_path, {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""})
    yield process
    process.stop()


@pytest.mark.live
def test_the_health_check_asks_the_gateway_itself_and_not_the_proxy_to_the_upstreams(
    process: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.start()
    monkeypatch.setitem(process._environment, "ANTIPHON_PORT", process.url.rpartition(":")[2])
    assert '"status":"ready"' in process.run("healthcheck")
