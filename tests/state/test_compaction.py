"""What of a context stays word for word, what is summarised, and what stands for the rest."""

import time
from typing import Any

import orjson
import pytest

from app.sealing import KeyRing, Sealer, SealError
from app.state.compaction import (
    LARGEST_CONTENT,
    SEAL,
    Compaction,
    compaction_item,
    cut,
    placed,
    replaced_tokens,
    request_for,
    retained,
    sealed_in,
    summary,
    user_messages,
)
from app.state.items import bind
from app.state.records import Item
from app.wire.input_items import LONGEST_SEALED
from app.wire.response import read
from tests.builders import ACCOUNT, answers, calls, make_item, says, thinks, user

_SEALER = Sealer(KeyRing(b"a secret of sixteen characters"))


def items(*values: dict[str, Any]) -> list[Item]:
    return [make_item(value) for value in values]


def told(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


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


def test_what_the_model_has_yet_to_answer_stays_with_the_calls_in_question() -> None:
    context = items(
        told("developer", "Be brief."),
        user("1"),
        calls("call_1"),
        answers("call_1"),
        thinks(),
        calls("call_2", "fc_2"),
        answers("call_2"),
        user("And?"),
    )
    history, unanswered = cut(context)
    assert history == [*context[:5]]
    assert unanswered == context[5:]


def test_of_a_context_without_a_word_of_the_models_nothing_is_history() -> None:
    context = items(told("developer", "Be brief."), user("1"))
    assert cut(context) == ([], context)


def test_of_a_history_instructions_stay_and_the_newest_words_of_the_user() -> None:
    history = items(
        told("system", "Be kind."), user("old " * 400), says("sure"), told("developer", "x" * 9000), user("new")
    )
    kept = [orjson.loads(content)["content"] for content in retained(history, 100) or ()]
    assert kept == ["Be kind.", "x" * 9000, "new"]
    assert len(retained(history, 1000) or ()) == 4


def test_of_the_users_words_no_more_stay_than_one_item_holds() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4_000_000}
    picture = make_item({"type": "message", "role": "user", "content": [image]})
    history = [*items(told("system", "Be kind.")), *[picture] * 5]
    kept = retained(history, 100_000)
    assert kept is not None
    assert len(kept) == 4, "the instructions and three images"
    longest = b",".join([*kept, summary("x" * 990_000)])
    assert len(_SEALER.seal("proj_a", longest)) < LONGEST_SEALED
    assert len(retained(history, 100_000, [picture] * 2) or ()) == 2
    # What has to stay does not fit.
    assert retained(history, 100_000, [picture] * 4) is None
    assert retained(items(told("system", "x" * LARGEST_CONTENT)), 0) is None


def test_a_history_that_is_shorter_than_the_request_for_a_summary_is_not_replaced() -> None:
    history = items(user("old " * 1000), says("Yes."), user("new " * 1000))
    kept = retained(history, 1_100)
    assert kept == [history[2].content]
    assert 1_000 < replaced_tokens(history, kept) < 1_100
    assert replaced_tokens(history, retained(history, 5_000) or ()) == 0
    assert replaced_tokens(items(user("Hi."), says("Hi.")), ()) == 0


def test_the_largest_content_can_be_sealed() -> None:
    assert LONGEST_SEALED - 100 < len(_SEALER.seal("proj_a", bytes(LARGEST_CONTENT))) <= LONGEST_SEALED


def test_a_context_of_many_calls_is_cut_in_one_pass() -> None:
    def seconds(count: int) -> float:
        made = [make_item(calls(f"call_{number}", f"fc_{number}")) for number in range(count)]
        given = [make_item(answers(f"call_{number}")) for number in range(count)]
        context = [make_item(says("Hi.")), *made, *given]
        started = time.thread_time()
        history, unanswered = cut(context)
        assert (history, unanswered) == (context[:1], context[1:])
        return time.thread_time() - started

    assert seconds(20_000) < 100 * max(seconds(1_000), 0.001)


def test_a_summary_is_not_taken_for_the_users_words() -> None:
    said = orjson.loads(summary("All went well."))
    assert said["role"] == "user"
    assert said["content"].endswith(":\n\nAll went well.")
    context = items(user("1"), said)
    assert user_messages(context) == context[:1]
    assert retained(context, 1000) == [context[0].content]


def test_a_model_is_asked_after_all_that_was_said() -> None:
    asked = orjson.loads(request_for([make_item(user("1")).content, make_item(says("2")).content]))
    assert [item["role"] for item in asked] == ["user", "assistant", "user"]
    assert "summary" in asked[-1]["content"]


def placed_in(compaction: Compaction, **members: Any) -> dict[str, Any]:
    """The response object with these members, as it is told once the compaction stands in it."""
    facts = read(orjson.dumps({"id": "resp_1", **members}))
    assert facts is not None
    told = placed(compaction, facts)
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
