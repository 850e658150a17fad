"""The time that the storage steps of one call have together: a database that hangs costs a call no more than that."""

import time
from contextvars import Context, ContextVar, copy_context

# Steps that take less of the whole than this are not counted: that many of them no call has.
_COUNTED_SHARE = 0.05


class Allowance:
    """What a call has spent waiting for its storage. It comes back while the call waits for other things."""

    # Here, because every call makes one, and nearly none comes to spend any.
    _spent = 0.0
    _at = 0.0

    def left(self, whole: float) -> float:
        """How many of these seconds the step that begins now may take: all, where the steps before were fast."""
        if not self._spent:
            return whole
        return max(0.0, whole - max(0.0, self._spent - (time.monotonic() - self._at)))

    def spend(self, whole: float, began: float) -> None:
        """A step that began then (by the monotonic clock) is over."""
        now = time.monotonic()
        if now - began > _COUNTED_SHARE * whole:
            self._spent = max(0.0, self._spent - (began - self._at)) + now - began
            self._at = now


_of_call: ContextVar[Allowance | None] = ContextVar("antiphon_allowance", default=None)


def begin_call() -> None:
    """From here on the steps of this task have their time together."""
    _of_call.set(Allowance())


def of_call() -> Allowance | None:
    """That of the call which this task serves; None outside of one: there each step has the whole time."""
    return _of_call.get()


def outside() -> Context:
    """The context of a task that outlives the call which starts it."""
    context = copy_context()
    context.run(_of_call.set, None)
    return context
