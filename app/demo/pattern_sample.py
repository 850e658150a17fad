"""Generate a short text that matches a regular expression, without running the untrusted expression."""

import string
from dataclasses import dataclass

_MAX_PATTERN = 500
_MAX_TEXT = 10_000
_MAX_DEPTH = 20
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t", "r": "\r"}
_ANCHORS = "bBAZ"
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


def sample(pattern: str) -> str:
    """Generate the shortest text: first alternatives, least repeats. Lookarounds are ignored."""
    return _Sampler(pattern[:_MAX_PATTERN]).alternatives()


@dataclass(slots=True)
class _Sampler:
    pattern: str
    at: int = 0
    depth: int = 0

    def alternatives(self) -> str:
        first = self._sequence()
        while self._take("|"):
            self._sequence()
        return first

    def _sequence(self) -> str:
        text = ""
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            atom = self._atom()
            # One bound for all levels: nested repeats would multiply.
            text += atom * min(self._repeats(), _MAX_TEXT // max(len(atom), 1))
        return text[:_MAX_TEXT]

    def _atom(self) -> str:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._set()
        if self._take("\\"):
            return self._escape()
        char = self._next()
        if char in "^$":
            return ""
        return "a" if char == "." else char

    def _group(self) -> str:
        silent = any(self._take(mark) for mark in ("?=", "?!", "?<=", "?<!"))
        if self._take("?P<") or self._take("?<"):
            self.at = self._after(">")
        else:
            self._take("?:")
        if self.depth == _MAX_DEPTH:
            self.at = len(self.pattern)
            return ""
        self.depth += 1
        text = self.alternatives()
        self.depth -= 1
        self._take(")")
        return "" if silent else text

    def _set(self) -> str:
        negated = self._take("^")
        members = ""
        while self.at < len(self.pattern) and (not members or self.pattern[self.at] != "]"):
            members += self._escape() if self._take("\\") else self._next()
        self._take("]")
        if not negated:
            return members[:1]
        low_high = zip(members, members[2:], strict=False)
        excluded = set(members) | {
            chr(code)
            for index, (low, high) in enumerate(low_high)
            if members[index + 1] == "-"
            for code in range(ord(low), min(ord(high), 127) + 1)
        }
        return next((char for char in _PRINTABLE if char not in excluded), "")

    def _escape(self) -> str:
        char = self._next()
        return "" if char in _ANCHORS else _CLASSES.get(char, char)

    def _repeats(self) -> int:
        least = 1
        if self._take("*") or self._take("?"):
            least = 0
        elif self._take("{"):
            end = self._after("}")
            low = self.pattern[self.at : end].rstrip("}").partition(",")[0]
            least = int(low) if low.isascii() and low.isdigit() else 0
            self.at = end
        else:
            self._take("+")
        self._take("?")
        return least

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _next(self) -> str:
        char = self.pattern[self.at : self.at + 1]
        self.at += 1
        return char

    def _after(self, mark: str) -> int:
        end = self.pattern.find(mark, self.at)
        return len(self.pattern) if end < 0 else end + 1
