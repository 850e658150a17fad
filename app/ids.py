"""Mint ids that look like OpenAI's, because clients check them (`resp_`, `msg_`; ≤ 64 characters)."""

import os
import time
from collections.abc import Callable

_ITEM_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "computer_call": "cu",
    "computer_call_output": "cuo",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "local_shell_call": "lsh",
    "shell_call": "sh",
    "apply_patch_call": "apc",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
}

# `getrandom` reads the same source as `urandom`, which releases the GIL: the event loop would wait to get it back.
# macOS has `urandom` alone.
_random_bytes: Callable[[int], bytes] = getattr(os, "getrandom", os.urandom)


def new_id(prefix: str) -> str:
    """Mint an id: the prefix, an underscore, 48 hex digits, of which the first eight are the time.

    So ids of one moment are neighbours in an index, and a commit writes fewer of its pages.
    """
    return f"{prefix}_{int(time.time()):08x}{_random_bytes(20).hex()}"


def new_item_id(item_type: str) -> str:
    """Mint an id for an item of this type; an unknown type gets `item_`."""
    return new_id(_ITEM_PREFIXES.get(item_type, "item"))


def new_request_id() -> str:
    """Mint the id of one HTTP request, for the `x-request-id` header."""
    return f"req_{_random_bytes(16).hex()}"
