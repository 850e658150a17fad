"""What `antiphon calls` shows."""

from app.cli.calls import _cost


def test_a_cost_that_is_estimated_or_not_known_does_not_pass_for_another() -> None:
    shown = [
        _cost({"cost_usd": cost, "estimated": estimated, "input_tokens": tokens})
        for cost, estimated, tokens in [(0.5, False, 9), (0.5, True, 9), (None, False, 9), (None, False, None)]
    ]
    assert shown == ["0.5", "~0.5", "no price", None]
