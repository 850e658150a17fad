"""What an error means for a run in the background: for which it waits, for how long, and which ends it."""

import pytest

from app.errors import ApiError, UpstreamRefusedError
from app.relay.background.errors import is_transient, pause_after
from app.upstream.faults.pool_exhausted import all_limited, no_key_accepted


def refused(status: int = 429, **headers: str) -> UpstreamRefusedError:
    return UpstreamRefusedError(status, b"{}", {name.replace("_", "-"): value for name, value in headers.items()})


def final() -> ApiError:
    error = refused()
    error.is_final = True
    return error


def taken() -> ApiError:
    error = refused()
    error.was_taken = True
    return error


@pytest.mark.parametrize("error", [refused(), all_limited(5), ApiError("No.", code="conversation_locked", status=409)])
def test_what_is_over_in_time_is_waited_for(error: ApiError) -> None:
    assert is_transient(error, is_started=True)


@pytest.mark.parametrize("error", [final(), taken(), refused(400), no_key_accepted(30)])
def test_what_no_wait_ends_ends_the_run(error: ApiError) -> None:
    assert not is_transient(error, is_started=True)


def test_a_run_whose_accounts_rest_looks_again_within_half_a_minute() -> None:
    assert [pause_after(all_limited(seconds), waited) for seconds, waited in ((5, 0), (500, 0), (500, 9000))] == [
        5,
        30,
        30,
    ]


def test_a_run_that_upstream_refuses_again_and_again_comes_back_more_and_more_rarely() -> None:
    assert [pause_after(refused(retry_after="4"), waited) for waited in (0, 6, 20, 200, 80_000)] == [4, 4, 10, 100, 300]
    assert pause_after(refused(), 0) == 1
