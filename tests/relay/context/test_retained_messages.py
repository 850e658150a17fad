"""What of a context stays word for word beside its summary, and what is summarised."""

import time
from typing import Any

import orjson

from app.relay.context.retained_messages import budget_under, retained, split_history, user_messages
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.state.items.compacted import LARGEST_CONTENT, replaced_tokens, summary_item
from app.state.items.token_estimate import estimate_items
from app.state.records import Item
from app.wire.requests.input_items import LONGEST_SEALED
from tests.builders import answers, calls, make_item, says, thinks, user

_SEALER = Sealer(KeyRing(b"a secret of sixteen characters"))


def items(*values: dict[str, Any]) -> list[Item]:
    return [make_item(value) for value in values]


def told(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


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
    history, unanswered = split_history(context)
    assert history == [*context[:5]]
    assert unanswered == context[5:]


def test_of_a_context_without_a_word_of_the_models_nothing_is_history() -> None:
    context = items(told("developer", "Be brief."), user("1"))
    assert split_history(context) == ([], context)


def test_of_a_history_instructions_stay_and_the_newest_words_of_the_user() -> None:
    history = items(
        told("system", "Be kind."), user("old " * 400), says("sure"), told("developer", "x" * 9000), user("new")
    )
    kept = [orjson.loads(content)["content"] for content in retained(history, 100) or ()]
    assert kept == ["Be kind.", "x" * 9000, "new"]
    assert len(retained(history, 1000) or ()) == 4


def test_of_the_users_words_half_of_what_a_context_may_have_stays() -> None:
    history = items(*[user("word " * 100) for _ in range(20)])
    kept = retained(history, budget_under(1_000))
    assert kept is not None
    assert 250 < estimate_items(kept) <= 500


def test_of_the_users_words_no_more_stay_than_one_item_holds() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4_000_000}
    picture = make_item({"type": "message", "role": "user", "content": [image]})
    history = [*items(told("system", "Be kind.")), *[picture] * 5]
    kept = retained(history, 100_000)
    assert kept is not None
    assert len(kept) == 4, "the instructions and three images"
    longest = b",".join([*kept, summary_item("x" * 990_000)])
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


def test_a_context_of_many_calls_is_cut_in_one_pass() -> None:
    def seconds(count: int) -> float:
        made = [make_item(calls(f"call_{number}", f"fc_{number}")) for number in range(count)]
        given = [make_item(answers(f"call_{number}")) for number in range(count)]
        context = [make_item(says("Hi.")), *made, *given]
        started = time.thread_time()
        history, unanswered = split_history(context)
        assert (history, unanswered) == (context[:1], context[1:])
        return time.thread_time() - started

    assert seconds(20_000) < 100 * max(seconds(1_000), 0.001)


def test_a_summary_is_not_taken_for_the_users_words() -> None:
    said = orjson.loads(summary_item("All went well."))
    assert said["role"] == "user"
    assert said["content"].endswith(":\n\nAll went well.")
    context = items(user("1"), said)
    assert user_messages(context) == context[:1]
    assert retained(context, 1000) == [context[0].content]
