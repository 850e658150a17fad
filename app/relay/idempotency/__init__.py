"""Make calls with an idempotency key once, and answer their repeats.

Words: a *keyed request* is a request with its idempotency key and fingerprint; a *claim* is the leased right to make
its call; a *repeat* is the same request again; a *recorded answer* is what the first client gets, replayed to others.

Entry point: `keyed_calls.Idempotency.serve`.

* A call with a key is made once while its owner lives, on all replicas: tests/live/test_idempotency_replicas.py.
* A repeat gets the answer of the first call, or an error that says why not: tests/live/test_idempotency.py.
"""
