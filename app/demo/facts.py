"""What the user told earlier in the same input, and the question that asks for it. Nothing is kept between calls."""

import re
from collections.abc import Iterable, Iterator

# The text is a stranger's and may be megabytes, so every repeat is bounded and facts are sought clause by clause.
# A dot inside a number ends no clause.
_CLAUSE_END = re.compile(r"[.!?,;](?:\s|$)|\n|\s(?=and\smy\b)")
_LONGEST_CLAUSE = 300
_NAME = r"(?P<name>\w[\w' -]{0,60}?)"
_TOLD = (
    re.compile(r"\b(?P<name>\w[\w-]{0,60})\s?=\s?(?P<value>\S.*)"),
    re.compile(rf"\b(?:my|remember(?: that)?(?: my| the)?) {_NAME} (?:is|are) (?P<value>\S.*)", re.IGNORECASE),
)
_ASKED = re.compile(r"\bwhat(?: is| are|['\u2019]s) (?:my |the )?(\w[\w' -]{0,60}?) ?(?:\?|$)", re.IGNORECASE)


def recall(user_texts: Iterable[str], question: str) -> str | None:
    """The sentence that answers "what is my X?" from the texts, the latest telling first; None when X is unknown."""
    names = _ASKED.findall(question)
    told = {_key(name): value for text in user_texts for name, value in _facts(text)} if names else {}
    return next((f"Your {name} is {told[_key(name)]}." for name in names if _key(name) in told), None)


def _facts(text: str) -> Iterator[tuple[str, str]]:
    for clause in _CLAUSE_END.split(text):
        if len(clause) <= _LONGEST_CLAUSE:
            for match in filter(None, (pattern.search(clause) for pattern in _TOLD)):
                yield match["name"], match["value"].rstrip(" .!?,;")


def _key(name: str) -> str:
    return " ".join(name.lower().split())
