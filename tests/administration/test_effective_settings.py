"""The settings in effect: each with where it comes from, and no secret among them."""

from pathlib import Path

import orjson

from app.administration.settings import effective
from app.settings.gateway import load_settings

SECRETS = (
    "a canary of a master secret",
    "a canary of an older secret",
    "sk-canary-file",
    "sk-canary-openai",
    "hunter2",
)


def test_each_says_where_it_comes_from_and_no_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRETS[2])
    (tmp_path / "secret").write_text(SECRETS[0])
    config = tmp_path / "antiphon.toml"
    config.write_text(
        "[relay]\nidle_timeout_seconds = 7\n"
        f'[[upstream]]\nname = "team"\nbase_url = "https://llm.example/v1"\nkeys = ["file:{tmp_path / "key"}"]\n'
    )
    settings = load_settings(
        {"port": 9000},
        {
            "ANTIPHON_CONFIG": str(config),
            "ANTIPHON_SECRET_KEY_FILE": str(tmp_path / "secret"),
            "ANTIPHON_PREVIOUS_SECRET_KEYS": SECRETS[1],
            "ANTIPHON_LOG_LEVEL": "debug",
            "DATABASE_URL": "postgresql://antiphon:hunter2@db/antiphon",
            "OPENAI_API_KEY": SECRETS[3],
        },
    )
    shown = effective(settings, settings)
    found = {setting.name: (setting.value, setting.source) for setting in shown}
    assert found["server.port"] == (9000, "--port")
    assert found["logging.level"] == ("debug", "ANTIPHON_LOG_LEVEL")
    assert found["relay.idle_timeout_seconds"] == (7.0, f"{config}: [relay] idle_timeout_seconds")
    assert found["server.host"] == ("127.0.0.1", "default")
    assert found["storage.secret_key"] == ("***", "ANTIPHON_SECRET_KEY_FILE")
    assert found["storage.previous_secret_keys"] == ("***", "ANTIPHON_PREVIOUS_SECRET_KEYS")
    assert found["storage.database_url"] == ("***", "DATABASE_URL")
    assert found["server.admin_key"] == (None, "default")
    assert found["upstreams.0.base_url"] == ("https://llm.example/v1", f"{config}: [[upstream]] #1")
    assert found["upstreams.1.keys"][1] == "OPENAI_API_KEY"
    text = orjson.dumps(found).decode()
    assert not any(secret in text for secret in SECRETS)
