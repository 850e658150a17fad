"""Read what a model thought, in any of the fields and tags that chat servers use, and seal it for the next turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

from app.errors import AntiphonError
from app.settings.upstreams import ChatProfile
from app.state.items.compacted import SEAL

_FIELDS = ("reasoning_content", "reasoning")
_DETAILS = "reasoning_details"
_OPENS, _CLOSES = "<think>", "</think>"
# The members of a detail that come in parts.
_CUT = ("text", "summary")
# Some servers send all of a chunk as one of these, beside what stands in it.
_TEXTS = ("text", "summary", "content")

ThinkTags = Literal["off", "on", "starts_open"]


class Sealer(Protocol):
    """Seal what clients bring back, for a project, as `app.security.encryption` does."""

    def seal(self, project_id: str, content: bytes) -> str: ...
    def open(self, project_id: str, sealed: str) -> bytes: ...


@dataclass(slots=True)
class Thoughts:
    """Hold what a model thought before one message or call: the text, the member it was `told_in`, and opaque parts.

    `details` are whole for the provider alone, as `extras` are, by the id of the call that they came with; `upstream`
    is the name of the upstream that can read them.
    """

    upstream: str
    text: str = ""
    told_in: str = _FIELDS[0]
    details: list[dict[str, Any]] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)

    def add_details(self, said: Sequence[Any]) -> None:
        """Add details; text that continues a detail of the same index is joined to it."""
        for detail in said:
            if not isinstance(detail, dict):
                continue
            last = self.details[-1] if self.details else None
            names = ("index", "type")
            if last is None or "index" not in detail or any(last.get(name) != detail.get(name) for name in names):
                self.details.append(dict(detail))
                continue
            for name, value in detail.items():
                old = last.get(name)
                last[name] = old + value if name in _CUT and isinstance(old, str) and isinstance(value, str) else value

    def sealed(self, seal: Callable[[bytes], str]) -> str:
        """Encrypt all of it, as the encrypted content of a reasoning item."""
        parts: dict[str, Any] = {"upstream": self.upstream, "text": self.text, "field": self.told_in}
        parts |= {name: value for name, value in (("details", self.details), ("extras", self.extras)) if value}
        return seal(orjson.dumps(parts))


def opened(item: Mapping[str, Any], upstream: str, open_: Callable[[str], bytes]) -> Thoughts:
    """Return what a reasoning item holds for this upstream; opaque parts of another are left out.

    What is sealed comes first, then reasoning text, then the summary. What others encrypted is passed over.
    """
    sealed = item.get("encrypted_content")
    if isinstance(sealed, str) and sealed.startswith(SEAL):
        try:
            parts = orjson.loads(open_(sealed))
        except (AntiphonError, orjson.JSONDecodeError):
            parts = None
        if isinstance(parts, dict) and "upstream" in parts:
            thoughts = Thoughts(upstream, str(parts.get("text", "")), str(parts.get("field", _FIELDS[0])))
            if parts["upstream"] == upstream:
                thoughts.details, thoughts.extras = parts.get("details", []), parts.get("extras", {})
            return thoughts
    for name in ("content", "summary"):
        parts = item.get(name)
        if isinstance(parts, list) and (text := "\n\n".join(_texts(parts))):
            return Thoughts(upstream, text)
    return Thoughts(upstream)


def recalled(before: Sequence[Thoughts], profile: ChatProfile, *, has_calls: bool) -> dict[str, Any]:
    """Return the one member of an assistant message that has the thoughts before it, as far as the server wants it.

    Details say all that the text beside them says, and more: where they go back, it does not.
    """
    if profile.reasoning_replay == "never" or (profile.reasoning_replay == "with_tool_calls" and not has_calls):
        return {}
    details = [detail for each in before for detail in each.details]
    if details and profile.reasoning_in in {"auto", _DETAILS}:
        return {_DETAILS: details}
    name: str = profile.reasoning_in
    if name not in _FIELDS:
        is_other = name == _DETAILS or any(each.told_in == "reasoning" for each in before)
        name = "reasoning" if is_other else "reasoning_content"
    text = "\n\n".join([each.text for each in before if each.text])
    return {name: text} if text or (has_calls and profile.fills_reasoning) else {}


def read(delta: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the reasoning text of a delta or a message, and the field that it stands in; the first one counts."""
    for name in _FIELDS:
        if isinstance(said := delta.get(name), str) and said:
            return said, name
    details = delta.get(_DETAILS)
    if isinstance(details, list) and (text := "".join(_texts(details))):
        return text, _DETAILS
    content = delta.get("content")
    if isinstance(content, list):
        thinking = [part.get("thinking") for part in content if isinstance(part, dict)]
        text = "".join(text for each in thinking if isinstance(each, list) for text in _texts(each))
        return text, None
    return "", None


def content_of(delta: Mapping[str, Any]) -> str:
    """Return the text of a delta or a message that is no reasoning."""
    content = delta.get("content")
    if isinstance(content, list):
        return "".join(_texts([part for part in content if isinstance(part, dict) and part.get("type") == "text"]))
    return content if isinstance(content, str) else ""


def _texts(parts: Sequence[Any]) -> list[str]:
    found = [next((part[name] for name in _TEXTS if name in part), "") for part in parts if isinstance(part, dict)]
    return [text for text in found if isinstance(text, str) and text]


class TagSplitter:
    """Split reasoning in tags from the text behind it, whatever the cuts; only where the text begins with it."""

    def __init__(self, mode: ThinkTags) -> None:
        self._state = {"off": "text", "on": "before", "starts_open": "inside"}[mode]
        self._held = ""

    def feed(self, text: str, *, is_last: bool = False) -> tuple[str, str]:
        """Return the reasoning and the text that are known with this text; what may be half a tag is held back."""
        if self._state == "text":
            return "", text
        self._held += text
        if self._state == "before":
            begun = self._held.lstrip()
            if begun.startswith(_OPENS):
                self._state, self._held = "inside", begun.removeprefix(_OPENS)
            elif is_last or not _OPENS.startswith(begun):
                return "", self._release("text")
        reasoning = ""
        if self._state == "inside":
            # A model whose template opens the tag may open it again.
            reasoning = self._inside(is_last=is_last)
        if self._state == "after":
            # The line break behind the tag is the template's.
            if not self._held and not is_last:
                return reasoning, ""
            self._held = self._held.removeprefix("\n")
            return reasoning, self._release("text")
        return reasoning, ""

    def _inside(self, *, is_last: bool) -> str:
        before, closes, after = self._held.partition(_CLOSES)
        if closes:
            self._state, self._held = "after", after
            return before
        kept = 0 if is_last else next(n for n in range(len(_CLOSES), -1, -1) if self._held.endswith(_CLOSES[:n]))
        reasoning = self._held[: len(self._held) - kept]
        self._held = self._held[len(self._held) - kept :]
        return reasoning

    def _release(self, state: str) -> str:
        held, self._held, self._state = self._held, "", state
        return held
