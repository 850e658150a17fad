"""Estimates of tokens, held against what tokenizers make of such texts."""

from typing import Any

import orjson
import pytest

from app.state.items.token_estimate import estimate_item, estimate_request, estimate_text

# The second is what OpenAI's cl100k_base counts; its later vocabularies need fewer for other scripts.
_TEXTS = [
    ("The quick brown fox jumps over the lazy dog.", 10),
    ("def add(first: int, second: int) -> int:\n    return first + second\n", 19),
    ("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.", 22),
    ("Съешь ещё этих мягких французских булок, да выпей чаю.", 34),
    ("敏捷的棕色狐狸跳过了懒狗。", 25),
    ("素早い茶色の狐がのろまな犬を飛び越える。", 29),
]


@pytest.mark.parametrize(("text", "counted"), _TEXTS)
def test_a_text_is_estimated_within_a_factor_of_two(text: str, counted: int) -> None:
    assert counted / 2 <= estimate_text(text) <= counted * 1.2


def test_no_text_has_no_tokens_and_any_text_has_one() -> None:
    assert estimate_text("") == 0
    assert estimate_text("a") == estimate_text("é") == estimate_text("中") == 1


def test_more_text_never_has_fewer_tokens() -> None:
    text = "Plain, naïve, 中文, \U0001f600 and \ud800"
    estimates = [estimate_text(text[:end]) for end in range(len(text) + 1)]
    assert estimates == sorted(estimates)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}, 765),
        ({"type": "input_image", "file_id": "file_1", "detail": "low"}, 85),
        ({"type": "input_file", "file_data": "A" * 100_000}, 1000),
        ({"type": "input_text", "text": "x" * 400}, 100),
    ],
)
def test_media_count_by_their_kind(part: dict[str, Any], tokens: int) -> None:
    message = {"type": "message", "role": "user", "content": [part]}
    # The role is one token, and the message itself some more.
    assert estimate_item(orjson.dumps(message)) == tokens + 5


def test_a_run_of_items_counts_as_its_items() -> None:
    item = orjson.dumps({"role": "user", "content": "Hello there."})
    assert estimate_item(b",".join([item, item])) == 2 * estimate_item(item)


def test_everything_a_model_is_shown_counts() -> None:
    bare = estimate_request({"input": "Hello."})
    assert bare == estimate_request({"input": [{"role": "user", "content": "Hello."}]}) - 1
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"city": {}}}}
    for more in (
        {"instructions": "Be brief."},
        {"tools": [tool]},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}},
    ):
        assert estimate_request({"input": "Hello.", **more}) > bare
    assert estimate_request({}) == 0
    assert estimate_request({"input": None, "tools": None, "text": None, "instructions": None}) == 0
