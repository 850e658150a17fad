"""The part of a text worth passing on: what it quotes, or the name it mentions."""

import re

_QUOTED = re.compile(r"[\"“]([^\"“”]{1,200})[\"”]")
_MARKS = ".,;:!?()"


def phrase_in(text: str) -> str:
    """The first quoted phrase, else the first run of capitalised words that begins no sentence, else nothing."""
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
