"""Describe what is wrong with the settings, a line for each problem, in the operator's own names."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings.secret_references import BROKEN
from app.settings.sources import Source


def lines(problems: Sequence[str]) -> Iterator[str]:
    """Put each problem on one line."""
    # Keys and paths are the user's own text and may hold line breaks.
    return (" ".join(problem.split()) for problem in problems)


def described(error: ValidationError, sources: Sequence[Source]) -> Iterator[str]:
    """Describe each validation error under the name that the operator wrote the setting by."""
    for detail in error.errors():
        if detail["input"] is not BROKEN:
            yield f"{_written_as(detail, sources)}: {detail['msg'].removeprefix('Value error, ')}."


def _written_as(detail: ErrorDetails, sources: Sequence[Source]) -> str:
    """Return the setting's name as the operator wrote it, in the source that won."""
    # Checks that compare settings fail on the later one; the message names the one to change.
    path = {"one_writer": ("server", "workers"), "loop": (*detail["loc"], "base_url")}.get(
        detail["type"], detail["loc"]
    )
    for end in range(len(path), 0, -1):
        for source in sources:
            if path[:end] in source.names:
                return " ".join([source.names[path[:end]], *map(str, path[end:])])
    return ".".join(map(str, path))
