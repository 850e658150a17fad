"""Store runs (responses in the background), their leases and their event logs.

Words: a *run* is a row from queued to ended; its *owner* is the process with the lease; the *epoch* counts owners and
fences the writes of earlier ones; a *page* is some events of the log in one row; *in flight* is queued or in progress.

Entry points: `store.RunStore`; `ready_runs.ready_runs` chooses what can begin; `notifications.Notifications` wakes
other replicas by NOTIFY.

Invariants: a run ends once, by its owner, in one commit with its turn; a former owner writes nothing
(`tests/storage/runs/test_store.py`); a project's limit of unfinished runs is exact over replicas
(`tests/storage/runs/test_creation.py`); the oldest run of each project begins first, none overtakes in its
conversation, and a lost notification loses no event (`tests/storage/runs/test_ready_runs.py`).
"""
