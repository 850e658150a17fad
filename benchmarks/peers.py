"""Other gateways: installed each in a virtual environment of its own at a pinned version, started as their docs say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson

from benchmarks.servers import free_port, started
from benchmarks.target import Target

_LITELLM_VERSION = "1.106.2"
_OGX_VERSION = "1.5.0"

_OGX_PYTHONS = ("3.14", "3.13", "3.12")
_KEY = "sk-bench"


def litellm(name: str, folder: Path, installed: Path, upstream_port: int) -> Target | None:
    """LiteLLM's proxy: passes the Responses API on, stores nothing."""
    if (commands := _installed(installed / "litellm", f"litellm[proxy]=={_LITELLM_VERSION}", sys.executable)) is None:
        return None
    port = free_port()
    config = folder / "litellm.json"
    parameters = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "sk-upstream"}
    config.write_bytes(
        orjson.dumps(
            {
                "model_list": [{"model_name": "bench", "litellm_params": parameters}],
                "general_settings": {"master_key": _KEY},
            }
        )
    )
    command = [str(commands / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = started(
        command, folder / "litellm.log", _environment(folder), f"http://127.0.0.1:{port}/health/readiness"
    )
    return Target(name, port, process, key=_KEY, share=0.1, version=f"LiteLLM {_LITELLM_VERSION}")


def ogx(name: str, folder: Path, installed: Path, upstream_port: int) -> Target | None:
    """OGX (formerly Llama Stack): a Responses API over chat completions, kept in SQLite, with no authentication."""
    if (python := _ogx_python()) is None:
        return None
    if (commands := _installed(installed / "ogx", f"ogx=={_OGX_VERSION}", python)) is None:
        return None
    port = free_port()
    config = folder / "ogx.yaml"
    # JSON is YAML.
    config.write_bytes(orjson.dumps(_ogx_config(folder / "ogx", port, upstream_port)))
    command = [str(commands / "ogx"), "run", str(config), "--insecure"]
    process = started(command, folder / "ogx.log", _environment(folder), f"http://127.0.0.1:{port}/v1/health")
    return Target(name, port, process, model="bench/bench", share=0.05, version=f"OGX {_OGX_VERSION}")


def _ogx_config(folder: Path, port: int, upstream_port: int) -> dict[str, object]:
    folder.mkdir()
    table = {"backend": "sql_default"}
    queue = {"max_write_queue_size": 10_000, "num_writers": 4}
    openai = {"api_key": "sk-upstream", "base_url": f"http://127.0.0.1:{upstream_port}/v1"}
    files = {"storage_dir": str(folder / "files"), "metadata_store": {"table_name": "files_metadata", **table}}
    return {
        "version": 2,
        "distro_name": "bench",
        "apis": ["conversations", "files", "inference", "prompts", "responses", "tool_runtime", "vector_io"],
        "providers": {
            "inference": [{"provider_id": "bench", "provider_type": "remote::openai", "config": openai}],
            "files": [{"provider_id": "files", "provider_type": "inline::localfs", "config": files}],
            "vector_io": [],
            "tool_runtime": [],
            "responses": [
                {
                    "provider_id": "builtin",
                    "provider_type": "inline::builtin",
                    "config": {"persistence": {"responses": {"table_name": "responses", **table, **queue}}},
                }
            ],
        },
        "storage": {
            "backends": {
                "kv_default": {"type": "kv_sqlite", "db_path": str(folder / "kv.db")},
                "sql_default": {"type": "sql_sqlite", "db_path": str(folder / "sql.db")},
            },
            "stores": {
                "metadata": {"namespace": "registry", "backend": "kv_default"},
                "inference": {"table_name": "inference_store", "enabled": True, **table, **queue},
                "conversations": {"table_name": "openai_conversations", **table},
                "prompts": {"table_name": "prompts", **table},
                "connectors": {"table_name": "connectors", **table},
            },
        },
        "server": {"host": "127.0.0.1", "port": port},
    }


def _installed(home: Path, requirement: str, python: str) -> Path | None:
    """The commands of an environment with this requirement, made when it is not there; None when it cannot be made."""
    mark = home / "installed"
    if not (mark.exists() and mark.read_text() == requirement):
        print(f"Installing {requirement} ...", file=sys.stderr)
        made = subprocess.run([python, "-m", "venv", "--clear", str(home)], check=False)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
        if made.returncode or subprocess.run(pip, check=False).returncode:
            return None
        mark.write_text(requirement)
    return home / "bin"


def _ogx_python() -> str | None:
    """A Python that OGX runs on: one on the path, or one of pyenv's."""
    pyenv = Path.home() / ".pyenv" / "versions"
    for wanted in _OGX_PYTHONS:
        found = [shutil.which(f"python{wanted}"), *map(str, pyenv.glob(f"{wanted}*/bin/python"))]
        for python in filter(None, found):
            # A shim of pyenv's is on the path for versions that are not chosen, too.
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return python
    return None


def _environment(folder: Path) -> dict[str, str]:
    # LiteLLM would fetch its list of prices at each start: what is measured stays on this machine.
    return {"PATH": os.defpath, "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
