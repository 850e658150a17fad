"""Query the input items: the user's texts, the called tools, and their outputs; validates nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

Item = Mapping[str, Any]

CALL_OF_OUTPUT = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}


@dataclass(frozen=True, slots=True)
class History:
    """Hold the checked items of one input, oldest first; a message has its `type`."""

    items: Sequence[Item]

    @property
    def user_texts(self) -> list[str]:
        """Return the text of each user message, oldest first."""
        return [text_of(item["content"]) for item in self.items if _is_said_by_user(item)]

    @property
    def last_user_text(self) -> str:
        """Return the last user message's text, "" if there is none."""
        return next(reversed(self.user_texts), "")

    @property
    def called(self) -> frozenset[str]:
        """Return the names of the tools called since the last user message."""
        recent = takewhile(lambda item: not _is_said_by_user(item), reversed(self.items))
        return frozenset(item["name"] for item in recent if item["type"] in CALL_OF_OUTPUT.values())

    @property
    def tool_answers(self) -> str:
        """Render the tool outputs that end the input, a sentence each; "" if it ends with another item."""
        names = {item["call_id"]: item["name"] for item in self.items if item["type"] in CALL_OF_OUTPUT.values()}
        last = list(takewhile(lambda item: item["type"] in CALL_OF_OUTPUT, reversed(self.items)))
        return "\n".join(
            f"The tool {names.get(item.get('call_id')) or item.get('name')} answered: {text_of(item['output'])}"
            for item in last[::-1]
        )


def _is_said_by_user(item: Item) -> bool:
    return (item["type"], item.get("role")) == ("message", "user")


def text_of(content: str | Sequence[Item]) -> str:
    """Return the text of a string, or of the content parts that have text."""
    if isinstance(content, str):
        return content
    texts = (part.get("text", part.get("refusal")) for part in content)
    return " ".join(text for text in texts if isinstance(text, str))
