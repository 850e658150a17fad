"""Members that an upstream may take for others."""

import pytest

from app.state.member_synonyms import synonym_of
from app.state.policies import allows_model
from app.wire.requests.create import MEMBERS


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("Model", "model"),
        ("MODEL", "model"),
        ("\uff4d\uff4f\uff44\uff45\uff4c", "model"),
        ("m\u00f3del", "model"),
        ("model\u200b", "model"),
        ("model ", "model"),
        ("model\x00", "model"),
        ("\U0001d426odel", "model"),
        ("MAX_OUTPUT_TOKENS", "max_output_tokens"),
        ("maxOutputTokens", "max_output_tokens"),
        ("max-output-tokens", "max_output_tokens"),
        ("max_output_to\u212aens", "max_output_tokens"),
        ("\u017ftore", "store"),
        ("\u017ftream", "stream"),
        ("Previous_Response_Id", "previous_response_id"),
        ("prev\u0131ous_response_\u0131d", "previous_response_id"),
        ("PREV\u0130OUS_RESPONSE_ID", "previous_response_id"),
        ("Conversation", "conversation"),
        ("serviceTier", "service_tier"),
        ("models", "model"),
        ("Models", "model"),
        ("fallBacks", "model"),
        ("provider", "model"),
        ("route", "model"),
        ("max_tokens", "max_output_tokens"),
        ("maxTokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("n", "max_output_tokens"),
    ],
)
def test_a_name_that_is_read_as_another_is_known_for_it(name: str, member: str) -> None:
    assert name not in MEMBERS
    assert synonym_of(name) == (member,)


@pytest.mark.parametrize("name", ["extra_body", "extraBody", "Options", "parameters", "generationConfig"])
def test_what_holds_others_may_hold_a_model_and_a_length(name: str) -> None:
    assert synonym_of(name) == ("model", "max_output_tokens")


@pytest.mark.parametrize("name", ["", "seed", "client_metadata", "modalities", "remodel", "max", "_", "x"])
def test_other_members_are_taken_for_nothing(name: str) -> None:
    assert synonym_of(name) == ()


def test_no_known_member_is_taken_for_another_known_one() -> None:
    assert all(synonym_of(name) == (name,) for name in MEMBERS)


def test_a_list_of_models_is_allowed_where_each_of_them_is() -> None:
    globs = ("ok-*", "fine")
    for model in ("ok-1", "ok-1,fine", "ok-1, ok-2"):
        assert allows_model(globs, model), model
    for model in ("other", "ok-1,other", "other,ok-1", "ok-1,", ",", ""):
        assert not allows_model(globs, model), model
    assert allows_model(("*",), "a,b")
