"""Store administrators' upstreams and keys, and share the health of accounts among processes.

Words: a *condition* is why an account, or one of its models, is not used; a *recovery* ends a condition; *cooling* is a
rate limit beneath a worse condition; a *probe* is the one call that tries an account again; a *control* is what an
administrator made of an account (draining, disabled); the *revision* changes with every change of upstreams.

Entry points: `conditions.ConditionStore`, `store.UpstreamStore` and the writes beside it.

Invariants: the worst condition stays, no cooldown is shortened or ends early, one process at a time probes an account
(`tests/storage/upstreams/test_conditions.py`); every change makes a new revision, and of two editors one wins
(`tests/storage/upstreams/test_store.py`); upstream keys are encrypted (`tests/live/test_stored_keys.py`).
"""
