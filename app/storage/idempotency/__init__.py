"""Store idempotency keys: the claim of the call that is made under a key, then the answer for its repeats.

Words: a *claim* is a lease of the key by one call, its *owner*; the *answer* is status, headers and body of that call;
a *fingerprint* is the hash of the request, by which another request under the same key is recognised.

Entry points: `store.IdempotencyStore`; `writes` has the changes it submits.

Invariants: one call owns a key over all replicas, and an owner that lost its lease keeps nothing; an answer is removed
with the response or conversation that it shows; keys and bytes of a project are bounded
(`tests/storage/idempotency/test_store.py`, `tests/live/test_idempotency_replicas.py`).
"""
