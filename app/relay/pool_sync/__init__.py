"""Keep the upstream pool of this process and the database in step, and reload the configuration.

Words: a *condition* is why an account is not used, as processes share it; *served upstreams* are the configuration's
and the administrators'; a *probe claim* lets one process try a dead account.

Entry points: `sync.PoolSync.run` (the periodic task), `reload.Reload` (on SIGHUP).

* All replicas leave alone an account that upstream limited or refused: tests/relay/pool_sync/test_sync.py.
* A stored upstream or key that cannot be used is left out: tests/relay/pool_sync/test_served_upstreams.py.
* A reload applies all settings or none, and calls go on: tests/live/test_reload.py.
"""
