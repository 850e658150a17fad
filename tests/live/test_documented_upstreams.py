"""Each of the settings in `docs/upstreams.md` serves tools and chains in front of a server of its kind."""

import re
import tomllib
from pathlib import Path

import pytest

from app.settings.gateway import load_settings
from app.upstream.chat.profile import profile_of
from tests.fakes.chat_calls import chat_settings, streamed, tool_rounds
from tests.fakes.chat_upstream import (
    DEEPSEEK,
    GEMINI,
    OPENAI,
    OPENROUTER,
    STRICT,
    TAGGED,
    TEMPLATE,
    THOUGHT,
    FakeChat,
)
from tests.fakes.gateway import running_gateway

pytestmark = pytest.mark.live

_PAGE = (Path(__file__).parents[2] / "docs" / "upstreams.md").read_text()
_DIALECTS = {
    "deepseek": DEEPSEEK,
    "mistral": STRICT,
    "openrouter": OPENROUTER,
    "gemini": GEMINI,
    "anthropic": OPENAI,
    "groq": OPENAI,
    "moonshot": DEEPSEEK,
    "azure": OPENAI,
    "vllm": TEMPLATE,
    "ollama": TEMPLATE,
    "llama-cpp": TEMPLATE,
    "lm-studio": TAGGED,
    "litellm": OPENAI,
}
_DOCUMENTED = {
    tomllib.loads(text)["upstream"][0]["name"]: text for text in re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
}


def test_a_server_of_each_kind_is_documented() -> None:
    assert _DOCUMENTED.keys() == _DIALECTS.keys()


@pytest.mark.parametrize("name", _DIALECTS)
async def test_what_is_documented_is_what_such_a_server_takes(
    name: str, chat: FakeChat, sqlite_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "antiphon.toml"
    config.write_text(_DOCUMENTED[name])
    keys = dict.fromkeys(re.findall(r"env:(\w+)", _DOCUMENTED[name]), "sk-theirs")
    (documented,) = load_settings(environ={"ANTIPHON_CONFIG": str(config), **keys}).upstreams
    assert [key.secret.get_secret_value() for key in documented.keys] == [*keys.values()]
    model = documented.models[0].replace("*", "any")
    chat.dialect = _DIALECTS[name]
    # What is known by the host, at a server on this machine.
    settings = chat_settings(chat, chat=profile_of(documented), models=documented.models)
    async with running_gateway(sqlite_url, [settings]) as gateway, gateway.client() as client:
        await tool_rounds(client, model)
        events = await streamed(client, model=model, input="Think.", reasoning={"effort": "high"})
    assert chat.refusals == []
    assert THOUGHT not in events[-1].response.output_text
