"""Rows of the table: what a model says and does, item type by item type, and how the next turn answers it."""

from typing import Any

from tests.exchanges.exchange import Exchange, Json, answers, calls, says, thinks, user

_SCREEN: Json = {"type": "computer_screenshot", "image_url": "data:image/png;base64,aGk="}
_STDOUT: Json = {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}


def _message(*parts: Json, **members: Any) -> Json:
    return {**says(), "content": list(parts), **members}


def _text(text: str, **members: Any) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **members}


_COMPUTER: Json = {
    "id": "cu_1@",
    "type": "computer_call",
    "call_id": "call_1@",
    "action": {"type": "screenshot"},
    "pending_safety_checks": [],
    "status": "completed",
}
_SEARCH: Json = {
    "id": "ts_1@",
    "type": "tool_search_call",
    "call_id": "call_1@",
    "execution": "client",
    "arguments": {},
}
_PATCH: Json = {
    "id": "apc_1@",
    "type": "apply_patch_call",
    "call_id": "call_1@",
    "operation": {"type": "delete_file", "path": "a"},
    "status": "completed",
}
_SHELL: Json = {
    "id": "sh_1@",
    "type": "shell_call",
    "call_id": "call_1@",
    "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None},
    "environment": None,
    "status": "completed",
}
_LOCAL_SHELL: Json = {
    "id": "lsh_1@",
    "type": "local_shell_call",
    "call_id": "call_1@",
    "action": {"type": "exec", "command": ["ls"], "env": {}},
    "status": "completed",
}
_IMAGE: Json = {"id": "ig_1@", "type": "image_generation_call", "status": "completed", "result": "aGk="}
_CODE: Json = {
    "id": "ci_1@",
    "type": "code_interpreter_call",
    "container_id": "cntr_1",
    "code": "1+1",
    "outputs": [{"type": "logs", "logs": "2"}],
    "status": "completed",
}
_APPROVAL: Json = {"id": "mcpr_1@", "type": "mcp_approval_request", "arguments": "{}", "name": "n", "server_label": "s"}
_PROGRAM: Json = {"id": "pr_1@", "type": "program", "call_id": "call_0@", "code": "f()", "fingerprint": "x"}
_PROGRAM_OUTPUT: Json = {
    "id": "po_1@",
    "type": "program_output",
    "call_id": "call_0@",
    "result": "42",
    "status": "completed",
}
_SEARCHED: Json = {
    "id": "ws_1@",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "q", "sources": []},
}
_CITED: Json = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 1}

ROWS = (
    Exchange(name="words with citations", says=[_message(_text("A", annotations=[_CITED]))]),
    Exchange(
        name="words with their odds",
        says=[_message(_text("A", logprobs=[{"token": "A", "logprob": -0.1, "bytes": [65], "top_logprobs": []}]))],
    ),
    Exchange(name="a refusal", says=[_message({"type": "refusal", "refusal": "No."})]),
    Exchange(
        name="words in two phases", says=[says("A", phase="commentary"), says("B", "msg_3@", phase="final_answer")]
    ),
    Exchange(name="nothing", says=[]),
    Exchange(name="words of any script", says=[says('\u2028 \u0085 é 😀 \\ " \u0000')]),
    Exchange(name="a sealed thought", asked={"input": "Hi", "reasoning": {"effort": "low"}}, says=[thinks(), says()]),
    Exchange(
        name="a thought in words",
        says=[
            thinks(encrypted_content=None, summary=[], content=[{"type": "reasoning_text", "text": "Hm."}]),
            says(),
        ],
    ),
    Exchange(
        name="a thought that nobody can read",
        says=[thinks(encrypted_content=None, summary=[{"type": "summary_text", "text": "Hm."}]), says()],
        replayed=[says()],
    ),
    Exchange(name="two thoughts of one id", says=[thinks(), thinks(encrypted_content="other"), says()]),
    Exchange(name="a call", says=[calls()], then=[answers()]),
    Exchange(name="a call behind a thought", says=[thinks(), calls()], then=[answers()], elsewhere=[calls()]),
    Exchange(
        name="calls side by side",
        says=[calls(), calls("g", "call_2@", "fc_2@")],
        then=[answers("call_2@"), answers("call_1@"), user("So?")],
    ),
    Exchange(name="a call of a namespace", says=[calls(namespace="n")], then=[answers()]),
    Exchange(
        name="a call answered in parts", says=[calls()], then=[answers(output=[{"type": "input_text", "text": "42"}])]
    ),
    Exchange(
        name="a call with a long id", says=[calls(call_id="call_" + "x" * 90)], then=[answers("call_" + "x" * 90)]
    ),
    Exchange(name="a call that still goes on", says=[calls(status="in_progress")], then=[answers()]),
    Exchange(
        name="a call of a program",
        says=[_PROGRAM, calls(caller={"type": "program", "caller_id": "call_0@"}, status="in_progress")],
        then=[answers(caller={"type": "program", "caller_id": "call_0@"})],
        only=("create", "stream", "chain", "conversation", "background", "websocket"),
    ),
    Exchange(name="a program and its output", says=[_PROGRAM, _PROGRAM_OUTPUT, says()]),
    Exchange(
        name="a custom call",
        says=[{"id": "ctc_1@", "type": "custom_tool_call", "call_id": "call_1@", "name": "c", "input": "x"}],
        then=[answers(kind="custom_tool_call_output")],
    ),
    Exchange(
        name="custom calls that were answered there",
        says=[
            {"id": "ctc_1@", "type": "custom_tool_call", "call_id": "call_1@", "name": "x_search", "input": "q"},
            says(),
        ],
        may_drop=["custom_tool_call"],
    ),
    Exchange(name="a computer call", says=[_COMPUTER], then=[answers(kind="computer_call_output", output=_SCREEN)]),
    Exchange(
        name="a computer call that still goes on",
        says=[{**_COMPUTER, "status": "in_progress"}],
        then=[answers(kind="computer_call_output", output=_SCREEN)],
    ),
    Exchange(name="a shell call", says=[_SHELL], then=[answers(kind="shell_call_output", output=[_STDOUT])]),
    Exchange(
        name="a shell call that was answered there",
        says=[_SHELL, answers(kind="shell_call_output", id="sho_1@", output=[_STDOUT], status="completed"), says()],
    ),
    Exchange(
        name="a local shell call",
        says=[_LOCAL_SHELL],
        then=[{"type": "local_shell_call_output", "id": "call_1@", "output": "{}"}],
    ),
    Exchange(name="a patch", says=[_PATCH], then=[{**answers(kind="apply_patch_call_output"), "status": "completed"}]),
    Exchange(
        name="a search of tools",
        says=[_SEARCH],
        then=[{"type": "tool_search_output", "call_id": "call_1@", "tools": [], "execution": "client"}],
    ),
    Exchange(name="a search of tools answered as a function", says=[_SEARCH], then=[answers()]),
    Exchange(
        name="a search of tools that was answered there",
        says=[
            {**_SEARCH, "call_id": None, "execution": "server", "status": "completed"},
            {
                "id": "tso_1@",
                "type": "tool_search_output",
                "call_id": None,
                "execution": "server",
                "tools": [],
                "status": "completed",
            },
            says(),
        ],
    ),
    Exchange(name="a web search", says=[_SEARCHED, says()]),
    Exchange(
        name="a file search",
        says=[
            {"id": "fs_1@", "type": "file_search_call", "queries": ["q"], "results": None, "status": "completed"},
            says(),
        ],
    ),
    Exchange(name="code that was run", says=[_CODE, says()]),
    Exchange(name="an image", says=[_IMAGE]),
    Exchange(
        name="a server's tools",
        says=[
            {"id": "mcpl_1@", "type": "mcp_list_tools", "server_label": "s", "tools": []},
            {
                "id": "mcp_1@",
                "type": "mcp_call",
                "arguments": "{}",
                "name": "n",
                "server_label": "s",
                "output": "42",
                "error": None,
            },
            says(),
        ],
    ),
    Exchange(
        name="an approval",
        says=[_APPROVAL],
        then=[{"type": "mcp_approval_response", "approval_request_id": "mcpr_1@", "approve": True}],
        is_owned=True,
    ),
    Exchange(
        name="a compaction",
        says=[{"id": "cmp_1@", "type": "compaction", "encrypted_content": "sealed"}, says()],
        given=[],
        only=("create", "stream", "chain", "conversation", "background", "websocket"),
    ),
    Exchange(name="an item of a type to come", says=[{"id": "x_1@", "type": "openrouter:fusion", "n": 1.5}, says()]),
)
