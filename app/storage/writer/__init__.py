"""Commit all writes of a process in groups: what waits goes into one transaction (group commit).

Words: a *write* is one change with a result; a *group* is the writes of one transaction; *pending* is a write that
waits; *apart* is a write with a transaction of its own on the second connection, which may wait for locked rows; a late
write is *withdrawn* before its COMMIT, or *undone* after it; *unheard* is a committed write whose caller has gone.

Entry points: `writer.Writer.submit`, and `writer.Write`, the base of every change beside its store.

Invariants: one writer per process, and no call waits for a row that another transaction has locked
(`tests/storage/writer/test_writer.py`, `tests/storage/writer/test_writer_waits.py`); rows are locked in one order
everywhere (`tests/storage/writer/test_lock_order.py`, ADR 24); a late write is withdrawn before its caller gets the
error, else undone (`tests/storage/writer/test_late_writes.py`, ADR 35); a write that fails fails no other of its group
(`tests/storage/writer/test_writer.py`).
"""
