"""Define the records that pass between rooms, and the rules on them that need no I/O. Pure.

Words. Turn: a stored response with its own input. Chain: a turn and all its ancestors. Policy: what a key or a project
may do. Limit: how much of it. Condition: what processes tell each other of an account's health. Run: a response in the
background. Event log: the events of a run, in pages. Epoch: the number of a run's ownership, which fences its writes.

Entry points: `records` (`Item`, `Turn`, `Chain`, `ApiKey`), `runs.Run`, `usage.UsageEntry`, `limits.grant`,
`member_synonyms.synonym_of`.

Invariants:
* A call gets all of its limits or none: tests/state/test_limit_windows.py, tests/state/test_limits_over_time.py.
* A policy holds for every spelling of a member: tests/state/test_member_synonyms.py.
"""
