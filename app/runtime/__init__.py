"""Provide what every room of a process shares: bytes, time, fair queues, the compute thread, coalesced writes.

Words: a *reservation* is the bytes that a call holds of the *byte budget*; a *deadline* bounds blocks of code; *storage
time* is what a call's storage steps take together; a *job* is work on a large input, outside the event loop.

Entry points: `byte_budget.ByteBudget`, `compute_thread.ComputeThread.run`, `deadline.Deadline`, `fair_queue.FairQueue`,
`storage_time.begin_call`, `write_coalescer.WriteCoalescer`, `memory_limit.budget_bytes`.

* Large bytes are reserved before they are read, and two calls never wait for each other:
  tests/runtime/test_byte_budget.py.
* Nothing large is computed in the event loop: tests/live/test_large_work.py, tests/runtime/test_compute_thread.py.
* A database that hangs costs a call a bounded time: tests/runtime/test_storage_time.py.
"""
