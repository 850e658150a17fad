"""Rows of the table: what a client says, in each form that an input has, and what it asks beside it."""

from typing import Any

from tests.exchanges.exchange import Exchange, Json, answers, calls, says, thinks, user

_TEXT: Json = {"type": "input_text", "text": "Hi"}


def _asked(*items: Json, **members: Any) -> Json:
    return {"input": list(items), **members}


def _part(part: Json) -> Json:
    return _asked({"role": "user", "content": [_TEXT, part]})


def _tool(tool: Json) -> Exchange:
    return Exchange(
        name=f"asks for {tool['type']}", asked={"input": "Hi", "tools": [tool]}, only=("create", "background")
    )


_TOOLS: tuple[Json, ...] = (
    {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
    {"type": "custom", "name": "c", "format": {"type": "text"}},
    {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    {"type": "tool_search", "execution": "client", "description": "d", "parameters": {"type": "object"}},
    {"type": "programmatic_tool_calling"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "web_search", "search_context_size": "low"},
    {"type": "web_search_preview_2025_03_11"},
    {"type": "computer"},
    {"type": "computer_use_preview", "display_height": 768, "display_width": 1024, "environment": "browser"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation", "size": "1024x1024"},
    {"type": "mcp", "server_label": "s", "server_url": "https://mcp.example/sse", "require_approval": "always"},
)

ROWS = (
    Exchange(name="text"),
    Exchange(name="an easy message", asked=_asked({"role": "user", "content": "Hi"}), given=[user("Hi")]),
    Exchange(
        name="system and developer",
        asked=_asked({"role": "system", "content": "S"}, {"role": "developer", "content": [_TEXT]}, user("Hi")),
    ),
    Exchange(name="an image by its URL", asked=_part({"type": "input_image", "image_url": "https://a.example/i.png"})),
    Exchange(name="an image in data", asked=_part({"type": "input_image", "image_url": "data:image/png;base64,aGk="})),
    Exchange(
        name="a file in data", asked=_part({"type": "input_file", "filename": "a", "file_data": "data:x;base64,aGk="})
    ),
    Exchange(name="a file by its URL", asked=_part({"type": "input_file", "file_url": "https://a.example/a.pdf"})),
    Exchange(name="a file by its id", asked=_part({"type": "input_file", "file_id": "file_1"}), is_owned=True),
    Exchange(name="audio", asked=_part({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}})),
    Exchange(
        name="a breakpoint of the prompt cache",
        asked=_asked({"role": "user", "content": [{**_TEXT, "prompt_cache_breakpoint": {"mode": "explicit"}}]}),
    ),
    Exchange(
        name="an earlier answer as text",
        asked=_asked(user("A?"), {"role": "assistant", "content": "B."}, user("And?")),
    ),
    Exchange(
        name="an earlier answer as it came",
        asked=_asked(user("A?"), says("B.", "msg_0@", phase="final_answer"), user("And?")),
    ),
    Exchange(
        name="an earlier refusal",
        asked=_asked(
            user("A?"),
            {**says(item_id="msg_0@"), "content": [{"type": "refusal", "refusal": "No."}]},
            user("And?"),
        ),
    ),
    Exchange(
        name="an earlier call and its output",
        asked=_asked(user("A?"), calls("f", "call_0@", "fc_0@"), answers("call_0@"), user("And?")),
    ),
    Exchange(
        name="an earlier thought",
        asked=_asked(user("A?"), thinks("rs_0@"), says("B.", "msg_0@"), user("And?")),
        only=("create", "stream", "chain", "conversation", "background", "websocket"),
    ),
    Exchange(
        name="an output without a call id",
        asked=_asked(user("A?"), {"type": "function_call_output", "name": "f", "output": "42"}),
    ),
    Exchange(
        name="a compaction from elsewhere",
        asked=_asked({"type": "compaction", "encrypted_content": "theirs"}, user("And?")),
        only=("create", "stream", "chain", "conversation", "background", "websocket"),
    ),
    Exchange(
        name="a change of configuration",
        asked=_asked({"type": "configuration_update", "reasoning": {"effort": "low"}}, user("Hi")),
    ),
    Exchange(
        name="tools in the input",
        asked=_asked(
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "c"}]}, user("Hi")
        ),
    ),
    Exchange(
        name="an item and a part of a type to come",
        asked=_asked({"type": "hologram", "depth": 1}, {"role": "user", "content": [{"type": "input_smell", "x": 1}]}),
    ),
    Exchange(
        name="a message of an agent",
        asked=_asked({"type": "agent_message", "content": [{"type": "input_text", "text": "Hi"}], "author": "a"}),
    ),
    Exchange(
        name="all that may be asked",
        asked={
            "input": "Hi",
            "instructions": "Be brief.",
            "include": ["message.output_text.logprobs"],
            "max_output_tokens": 16,
            "max_tool_calls": 1,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "s",
            "service_tier": "flex",
            "temperature": 0.5,
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "tool_choice": "none",
            "top_logprobs": 1,
            "top_p": 0.5,
            "truncation": "auto",
            "user": "u",
        },
    ),
    Exchange(name="what a later API may ask", asked={"input": "Hi", "x_future": {"f": 1.5}, "presence_penalty": 0.5}),
    *map(_tool, _TOOLS),
)
