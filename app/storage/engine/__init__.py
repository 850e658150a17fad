"""Run statements on SQLite or PostgreSQL in threads, within a time limit.

Words: a *session* is one thread's connection; a *driver* is what differs between SQLite and PostgreSQL; the *log* is
SQLite's write-ahead log; a *guest* is a process beside the one that serves from a SQLite file, such as a command;
*erasure* removes deleted content from the log, too.

Entry points: `database.Database` (read, write, check), `location.DatabaseLocation` (the URL), `clock.DatabaseTime` (the
time of leases and expiry), `statements.Query` and `Insertion` (hot statements as text).

Invariants: a read ends within its time, and its statement with it (`tests/storage/engine/test_database.py`,
`tests/storage/engine/test_threads.py`); deleted content is nowhere on the disk
(`tests/storage/engine/test_erasure.py`); no commit waits for the whole log to be copied back
(`tests/storage/engine/test_log_steps.py`), and a guest copies nothing back (`tests/storage/engine/test_guests.py`); hot
queries use their index (`tests/storage/engine/test_query_plans.py`).
"""
