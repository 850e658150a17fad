"""What of the table does not hold yet: by row, the ways and why. A row that holds again is to be taken out."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

_NOT_YET: tuple[tuple[str, str, Collection[str]], ...] = ()


def _by_way() -> Iterator[tuple[tuple[str, str], str]]:
    for row, reason, ways in _NOT_YET:
        for way in ways:
            yield (way, row), reason


REFUSED = (
    "Missing required parameter: 'input[0].call_id'.",
    "Missing required parameter: 'items[0].call_id'.",
    "Invalid value: 'text'. Supported values are: 'standard' and 'pro'.",
    "Missing required parameter: 'model'.",
)
"""What requests are told that OpenAI's document allows: an output that names a function, a mode to come, a prompt."""

KNOWN: Mapping[tuple[str, str], str] = MappingProxyType(dict(_by_way()))
