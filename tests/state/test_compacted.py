"""What a model is asked for to make a context short, and the item that stands for it."""

from typing import Any

import orjson
import pytest

from app.security.cipher import SealError
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.state.items.compacted import (
    LARGEST_CONTENT,
    SEAL,
    Compaction,
    compaction_item,
    sealed_in,
    summary_input,
    with_compaction,
)
from app.state.items.stored_form import bind
from app.state.records import Item
from app.wire.requests.input_items import LONGEST_SEALED
from app.wire.responses.response_object import read
from tests.builders import ACCOUNT, make_item, says, user

_SEALER = Sealer(KeyRing(b"a secret of sixteen characters"))


def items(*values: dict[str, Any]) -> list[Item]:
    return [make_item(value) for value in values]


def test_what_is_sealed_is_read_by_the_project_it_was_sealed_for() -> None:
    sealed = _SEALER.seal("proj_a", b"the summary")
    assert sealed.startswith(SEAL)
    assert b"summary" not in sealed.encode()
    assert sealed != _SEALER.seal("proj_a", b"the summary"), "no two look alike"
    assert Sealer(KeyRing(b"a secret of sixteen characters")).open("proj_a", sealed) == b"the summary"


@pytest.mark.parametrize(
    ("start", "end"), [(22, "A" * 40), (22, ""), (0, SEAL), (0, f"{SEAL}\u00e9"), (99, "A")], ids=str
)
def test_what_was_changed_is_not_opened(start: int, end: str) -> None:
    with pytest.raises(SealError):
        _SEALER.open("proj_a", _SEALER.seal("proj_a", b"the summary")[:start] + end)


def test_nobody_else_opens_what_was_sealed() -> None:
    sealed = _SEALER.seal("proj_a", b"the summary")
    with pytest.raises(SealError):
        _SEALER.open("proj_b", sealed)
    with pytest.raises(SealError):
        Sealer(KeyRing(b"another secret of sixteen")).open("proj_a", sealed)


def test_what_was_sealed_under_an_earlier_secret_is_read_and_nothing_is_sealed_under_it() -> None:
    renewed = Sealer(
        KeyRing(b"a new secret of sixteen", [b"one in between of sixteen", b"a secret of sixteen characters"])
    )
    assert renewed.open("proj_a", _SEALER.seal("proj_a", b"the summary")) == b"the summary"
    with pytest.raises(SealError):
        _SEALER.open("proj_a", renewed.seal("proj_a", b"the summary"))
    with pytest.raises(SealError):
        renewed.open("proj_b", _SEALER.seal("proj_a", b"the summary"))


def test_only_this_gateways_compactions_are_told_by_their_content() -> None:
    ours = orjson.loads(compaction_item(f"{SEAL}x"))
    assert ours["id"].startswith("cmp_")
    assert sealed_in(ours) == f"{SEAL}x"
    assert sealed_in({**ours, "encrypted_content": "gAAAAB"}) is None
    assert sealed_in({**ours, "type": "reasoning"}) is None
    assert sealed_in({"type": "compaction", "encrypted_content": None}) is None


def test_ours_can_be_read_for_any_account_and_a_foreign_one_for_its_own() -> None:
    ours, foreign = ({"type": "compaction", "encrypted_content": content} for content in (f"{SEAL}x", "gAAAAB"))
    assert make_item(ours, is_output=True).account is None
    assert make_item(foreign, is_output=True).account == ACCOUNT
    bound = bind(items(ours, foreign), ACCOUNT)
    assert [item.account for item in bound] == [None, ACCOUNT]


def test_the_largest_content_can_be_sealed() -> None:
    assert LONGEST_SEALED - 100 < len(_SEALER.seal("proj_a", bytes(LARGEST_CONTENT))) <= LONGEST_SEALED


def test_a_model_is_asked_after_all_that_was_said() -> None:
    asked = orjson.loads(summary_input([make_item(user("1")).content, make_item(says("2")).content]))
    assert [item["role"] for item in asked] == ["user", "assistant", "user"]
    assert "summary" in asked[-1]["content"]


def placed_in(compaction: Compaction, **members: Any) -> dict[str, Any]:
    """The response object with these members, as it is told once the compaction stands in it."""
    facts = read(orjson.dumps({"id": "resp_1", **members}))
    assert facts is not None
    told = with_compaction(compaction, facts)
    made: dict[str, Any] = orjson.loads(told.as_asked(store=True, previous_response_id=None))
    assert made["usage"] == told.usage
    assert made["output"] == [orjson.loads(item) for item in told.output]
    return made


@pytest.mark.parametrize("output", [{}, {"output": None}, {"output": []}, {"output": [{"type": "message"}]}], ids=str)
def test_a_compaction_comes_first_in_the_output(output: dict[str, Any]) -> None:
    made = placed_in(Compaction(b'{"type":"compaction"}', b"", None), **output)
    assert made["output"] == [{"type": "compaction"}, *(output.get("output") or [])]
    assert made["usage"] is None


def test_what_the_summary_cost_is_counted_in() -> None:
    usage = {"input_tokens": 7, "total_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "tier": "x"}
    compaction = Compaction(b"{}", b"", {"input_tokens": 100, "total_tokens": 110, "output_tokens": 10})
    made = placed_in(compaction, output=[], usage=usage)
    assert made["usage"] == {**usage, "input_tokens": 107, "total_tokens": 119, "output_tokens": 10}
    assert placed_in(compaction, usage=None)["usage"] == compaction.usage
