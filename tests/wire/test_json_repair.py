import orjson
import pytest

from app.wire.json.repair import repaired


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'"half \\ud83d"', "half \ufffd"),
        (b'"half \\uDE00 a"', "half \ufffd a"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd\U0001f600"),
        (b'"\\ud83d\\n"', "\ufffd\n"),
        (b'"\\\\ud83d"', "\\ud83d"),
        (b'"\\\\\\ud83d"', "\\\ufffd"),
        (b'"cut \xf0\x9f"', "cut \ufffd"),
    ],
)
def test_half_a_character_becomes_the_mark_of_a_lost_one(raw: bytes, read: str) -> None:
    assert orjson.loads(repaired(raw)) == read


@pytest.mark.parametrize("raw", [b'"\\ud83d\\ude00"', b'"\\u00e9\\"\\\\ \xc3\xa9"', b'{"a":NaN}', b""])
def test_all_else_keeps_its_bytes(raw: bytes) -> None:
    assert repaired(raw) == raw
