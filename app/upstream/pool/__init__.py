"""Choose which account serves a call, and keep what its calls show of its health. No I/O.

Words. Member: an account in the pool. Checkout: one call in flight on a member. Cooldown: why a member is not used, and
until when: dead (key refused), parked (quota spent) and open (five failures) end by a probe, a rate limit by time.
Probe: one call that tests a member, once granted. Suspect: used after the healthy members. Cap: an operator's limit of
a key. Tier: members that are used before the next tier. Home: the account that has a prompt cache.

Entry point: `pool.Pool` (`enter`, `take`, `wait`, `serve`, `fail`).

Invariants:
* An account that upstream refused or limited is left alone until its time: tests/upstream/pool/test_cooldown.py,
  tests/upstream/pool/test_shared_health.py, tests/live/test_shared_keys.py.
* Waiting calls are served in turn among projects: tests/upstream/pool/test_wait_queue.py.
* A refusal of encrypted reasoning is remembered only if confirmed: tests/upstream/pool/test_encrypted_reasoning.py.
"""
