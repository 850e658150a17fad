"""Start a gateway: from valid settings to a process, or several, that serves.

Installation: a gateway's lasting state, that is its database, its secrets, its projects and keys. First keys: what the
first start on a database makes. Worker: one of several processes on one socket. Parent: the process that starts them.

Entry points: `start.start` (serve until a signal), `app_factory.create_app` (build the app), `installation.command_on`
(open the installation for a command).

* Only `serve` makes an installation; first keys are made once, and never lost: tests/live/test_first_keys.py,
  tests/live/test_reading_verbs.py.
* A start waits for a database that may yet come, and fails in one line else: tests/live/test_database_at_start.py.
* No worker outlives its parent, a dead one is replaced: tests/live/test_postgres_processes.py.
* A change of the master secret refuses no call: tests/live/test_change_of_secret.py.
"""
