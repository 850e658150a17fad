"""Cut a text into streamed words, find facts that the user stated, and pick a phrase to repeat."""

import re
from collections.abc import Iterable, Iterator

# A long run without spaces (compact JSON, base64) is cut too, so that it streams in several deltas.
_WORD = re.compile(r"\S{1,24}\s*|\s+")


def words(text: str) -> list[str]:
    """Cut `text` into pieces, which joined give it back exactly."""
    return _WORD.findall(text)


# The text is untrusted and may be megabytes: every repeat is bounded, and facts are sought clause by clause.
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
    """Answer "what is my X?" from the latest text that states X; None if none does."""
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


_QUOTED = re.compile(r"[\"“]([^\"“”]{1,200})[\"”]")
_MARKS = ".,;:!?()"


def phrase_in(text: str) -> str:
    """Return the first quoted phrase, else the first capitalised words that begin no sentence, else ""."""
    if quoted := _QUOTED.search(text):
        return quoted[1]
    run: list[str] = []
    begins_sentence = True
    for word in text.split():
        bare = word.strip(_MARKS)
        if bare[:1].isupper() and bare != "I" and not bare.startswith("I'") and not begins_sentence:
            run.append(bare)
        elif run:
            break
        if run and word[-1] in _MARKS:
            break
        begins_sentence = word[-1] in ".!?"
    return " ".join(run)
