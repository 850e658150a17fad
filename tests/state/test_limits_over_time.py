"""Limits over simulated time: whenever calls are granted and settled, each token that was used counts once."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.state.limit_windows import Claim, Correction, Count, Key, Limit, Window, correct, grant

MOST = 1000
START = 1_800_000_000_000
STEPS = {"minute": 40_000, "day": 50_000_000}


@dataclass
class Call:
    """A call that was granted so much in the window that began at this time."""

    taken: int
    began_at: int


class Ledger:
    """One limit's count, moved through time; `counted` is what all of its windows together have had."""

    def __init__(self, window: Window) -> None:
        self.limit = Limit("key_1", "API key", "tokens", window, MOST)
        self.counts: dict[Key, Count] = {}
        self.now = START
        self.over = 0
        self.calls: list[Call] = []
        self.due = 0

    def draw(self, amount: int) -> None:
        before = self.count
        verdict = grant(self.counts, [Claim(self.limit, amount)], self.now)
        if verdict.refused is None:
            self.calls.append(Call(amount, verdict.standings[0].began_at))
            self.due += amount
        self.close(before)

    def settle(self, call: Call, used: int) -> None:
        before = self.count
        is_over = before is None or self.now >= before.ends_at or before.began_at != call.began_at
        correct(self.counts, [Correction(self.limit, used - call.taken, call.began_at)], self.now)
        self.due += max(0, used - call.taken) if is_over else used - call.taken
        self.close(before)

    def close(self, before: Count | None) -> None:
        """Keep what a window had that another has followed."""
        if before is not None and self.count is not None and self.count.began_at != before.began_at:
            self.over += before.used

    @property
    def count(self) -> Count | None:
        return self.counts.get(self.limit.key)

    @property
    def counted(self) -> int:
        return self.over + (0 if self.count is None else self.count.used)


AMOUNTS = st.integers(0, 1500)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(0, 400), AMOUNTS),
        st.tuples(st.just("settle"), st.integers(0, 50), AMOUNTS),
        st.tuples(st.just("wait"), st.integers(0, 3), AMOUNTS),
    ),
    max_size=40,
)


@given(window=st.sampled_from(["minute", "day"]), moves=MOVES)
def test_what_calls_used_counts_once_whenever_they_end(window: Window, moves: list[tuple[str, int, int]]) -> None:
    ledger = Ledger(window)
    for move, number, amount in moves:
        if move == "wait":
            ledger.now += number * STEPS[window] + amount
        elif move == "draw":
            ledger.draw(number)
        elif ledger.calls:
            ledger.settle(ledger.calls.pop(number % len(ledger.calls)), amount)
        assert ledger.counted == ledger.due
        if ledger.count is not None:
            # No window gives what was taken from another.
            assert ledger.count.used >= sum(
                call.taken for call in ledger.calls if call.began_at == ledger.count.began_at
            )
