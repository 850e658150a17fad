"""Bound the time that the storage steps of one call take together, however long a database hangs."""

import time
from contextvars import Context, ContextVar, copy_context

# Steps that take a smaller share than this are not counted: no call has enough of them to matter.
_COUNTED_SHARE = 0.05


class StorageTime:
    """Count what a call has spent waiting for its storage. It comes back while the call waits for other things."""

    # Class attributes, because every call makes an instance, and nearly none spends any time.
    _spent = 0.0
    _at = 0.0

    def left(self, whole: float) -> float:
        """Return how many of these seconds the step that begins now may take: all, where earlier steps were fast."""
        if not self._spent:
            return whole
        return max(0.0, whole - max(0.0, self._spent - (time.monotonic() - self._at)))

    def spend(self, whole: float, began: float) -> None:
        """Count a step that began then (by the monotonic clock) and is over now."""
        now = time.monotonic()
        if now - began > _COUNTED_SHARE * whole:
            self._spent = max(0.0, self._spent - (began - self._at)) + now - began
            self._at = now


_of_call: ContextVar[StorageTime | None] = ContextVar("antiphon_allowance", default=None)


def begin_call() -> None:
    """Let the storage steps of this task share their time from here on."""
    _of_call.set(StorageTime())


def time_of_call() -> StorageTime | None:
    """Return the storage time of the call that this task serves; None outside: there each step has the whole time."""
    return _of_call.get()


def context_without_call() -> Context:
    """Make a context for a task that outlives the call which starts it: without the call's storage time."""
    context = copy_context()
    context.run(_of_call.set, None)
    return context
