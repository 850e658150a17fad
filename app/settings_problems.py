"""What is wrong with the settings, in lines for the one who wrote them. Must not know which settings there are."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings_references import BROKEN
from app.settings_sources import Source


def lines(problems: Sequence[str]) -> Iterator[str]:
    """The problems, each in one line."""
    # Keys and paths are the user's own text and may hold line breaks.
    return (" ".join(problem.split()) for problem in problems)


def described(error: ValidationError, sources: Sequence[Source]) -> Iterator[str]:
    """What is wrong with the values, each under the name that the user wrote it by."""
    for detail in error.errors():
        if detail["input"] is not BROKEN:
            yield f"{_written_as(detail, sources)}: {detail['msg'].removeprefix('Value error, ')}."


def _written_as(detail: ErrorDetails, sources: Sequence[Source]) -> str:
    """The setting as the user wrote it, in the place that won."""
    # Checks that compare settings fail on the later one; the user is told of the one to change.
    path = {"one_writer": ("server", "workers"), "loop": (*detail["loc"], "base_url")}.get(
        detail["type"], detail["loc"]
    )
    for end in range(len(path), 0, -1):
        for source in sources:
            if path[:end] in source.names:
                return " ".join([source.names[path[:end]], *map(str, path[end:])])
    return ".".join(map(str, path))
