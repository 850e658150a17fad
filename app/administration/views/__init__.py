"""Render records as administrators see them, the same for REST and commands: JSON members, or CSV.

View: the members of a record, with secrets, hashes and whole keys left out. Hint: the last four characters of a key.
Sum: usage of a group of calls.

Entry points: `resources` and `upstream_resources` (a function for each kind of record), `usage_csv.usage_csv`.

* No view has a secret or a hash: tests/live/test_secrets.py, tests/api/test_admin_upstreams.py.
* No cell of CSV is a formula: tests/api/test_admin_usage.py.
"""
