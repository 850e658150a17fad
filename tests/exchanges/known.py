"""What of the table does not hold yet: by row, the ways and why. A row that holds again is to be taken out."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from tests.exchanges.exchange import SURFACES

_PAIRS = "calls and outputs are paired by their types"
_LABELS = "the content type alone says whether an answer is a stream"
_SNAPSHOTS = "the last snapshot alone says what the output is"
_ENDINGS = "an ending is known by its usual name alone"
_ERRORS = "errors are read in OpenAI's shape alone"
_STUBS = "a stub is sent on as it is"
_LIMITS = "ids of upstream's are held to the length of OpenAI's"
_CONTROL = "control items are kept like others"
_ACCOUNTS = "an approval leaves the account that asked for it"
_IDS = "of two items with one id, one is listed"

_NOT_YET: tuple[tuple[str, str, Collection[str]], ...] = (
    ("an output without a call id", _PAIRS, SURFACES),
    ("a call that still goes on", _PAIRS, SURFACES),
    ("a call of a program", _PAIRS, SURFACES),
    ("a computer call that still goes on", _PAIRS, SURFACES),
    ("custom calls that were answered there", _PAIRS, SURFACES),
    ("a search of tools answered as a function", _PAIRS, SURFACES),
    ("a call with a long id", _LIMITS, SURFACES),
    ("two thoughts of one id", _IDS, ("chain",)),
    ("a trigger of a compaction", _CONTROL, SURFACES),
    ("an approval", _ACCOUNTS, ("failover",)),
    ("a stream without a type", _LABELS, SURFACES),
    ("a stream as plain text", _LABELS, SURFACES),
    ("a stream as bytes", _LABELS, SURFACES),
    ("a stream as JSON", _LABELS, SURFACES),
    ("a body as a stream", _LABELS, SURFACES),
    ("the other form than was asked", _LABELS, SURFACES),
    ("a last snapshot that is empty", _SNAPSHOTS, SURFACES),
    ("a last snapshot without output", _SNAPSHOTS, SURFACES),
    ("it is done under another name", _ENDINGS, SURFACES),
    ("it is cut off and says it is done", _ENDINGS, ("stream",)),
    ("refused by xAI", _ERRORS, SURFACES),
    ("refused by FastAPI", _ERRORS, SURFACES),
    ("refused in plain text", _ERRORS, SURFACES),
    ("refused in a list", _ERRORS, SURFACES),
    ("refused in two layers", _ERRORS, SURFACES),
    ("refused by Gemini", _ERRORS, SURFACES),
    ("an error under 200", _ERRORS, SURFACES),
    ("an error of OpenRouter under 200", _ERRORS, SURFACES),
    ("a sealed thought", _STUBS, ("stub",)),
    ("a thought in words", _STUBS, ("stub",)),
    ("a call behind a thought", _STUBS, ("stub",)),
    ("a program and its output", _STUBS, ("stub",)),
    ("a web search", _STUBS, ("stub",)),
    ("a file search", _STUBS, ("stub",)),
    ("code that was run", _STUBS, ("stub",)),
    ("an image", _STUBS, ("stub",)),
    ("a server's tools", _STUBS, ("stub",)),
    ("an approval", _STUBS, ("stub",)),
)


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
