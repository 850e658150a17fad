"""Summaries that were paid for wait for a repeat of their call, a few of each project, for an hour."""

from app.relay.context.summary_cache import Summaries, Summary
from app.wire.json_body import Json

SUMMARY = Summary("They counted.", Json(b'{"input_tokens":1}'))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def key(number: int, project: str = "proj_a") -> tuple[str, bytes]:
    return project, b"%d" % number


def test_a_summary_is_found_until_its_call_is_answered() -> None:
    summaries = Summaries()
    assert summaries.find(key(1)) is None
    summaries.keep(key(1), SUMMARY)
    assert [summaries.find(key(1)), summaries.find(key(2)), summaries.find(key(1, "proj_b"))] == [SUMMARY, None, None]
    summaries.drop(key(1))
    assert summaries.find(key(1)) is None
    summaries.drop(key(1))


def test_one_project_forgets_its_own_and_no_others() -> None:
    summaries = Summaries()
    summaries.keep(key(0, "proj_b"), SUMMARY)
    for number in range(20):
        summaries.keep(key(number), SUMMARY)
    assert [number for number in range(20) if summaries.find(key(number))] == [*range(12, 20)]
    assert summaries.find(key(0, "proj_b")) == SUMMARY


def test_what_was_used_last_stays() -> None:
    summaries = Summaries()
    for number in range(8):
        summaries.keep(key(number), SUMMARY)
    summaries.find(key(0))
    summaries.keep(key(8), SUMMARY)
    assert summaries.find(key(0)) == SUMMARY
    assert summaries.find(key(1)) is None


def test_all_projects_together_are_bounded_and_what_is_long_is_not_kept() -> None:
    summaries = Summaries()
    for number in range(200):
        summaries.keep(key(0, f"proj_{number}"), SUMMARY)
    assert sum(summaries.find(key(0, f"proj_{number}")) is not None for number in range(200)) == 128
    summaries.keep(key(1), Summary("é" * 40_000, SUMMARY.usage))
    assert summaries.find(key(1)) is None


def test_after_an_hour_without_use_it_is_forgotten() -> None:
    clock = Clock()
    summaries = Summaries(clock)
    summaries.keep(key(1), SUMMARY)
    summaries.keep(key(2), SUMMARY)
    clock.now = 3000
    assert summaries.find(key(1)) == SUMMARY
    clock.now = 3601
    assert summaries.find(key(2)) is None
    assert summaries.find(key(1)) == SUMMARY
    clock.now = 7300
    assert summaries.find(key(1)) is None
