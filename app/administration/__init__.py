"""Check and apply the changes of administrators, for REST and commands alike: one commit for a change and its record.

Actor: who administers, and what that key may give away. Record: the entry of a change in the audit log. Version: the
number that an editor read; a change of an older one is a conflict. Erasure: the removal of a project with all it has.

Entry points: `keys.ApiKeys`, `projects.Projects`, `upstreams.Upstreams`, `audit.Audit.submit` (the one way to write).

* No change without its record, and no secret in it: tests/administration/test_key_administration.py.
* Of two editors one gets a conflict: tests/administration/test_key_administration.py.
* No key makes or shows one that may do more; keys end with the key that made them:
  tests/administration/test_key_ends.py.
* Upstreams of administrators lead nowhere inside: tests/administration/test_upstream_addresses.py.
* Errors have OpenAI's words: tests/administration/test_key_rules.py.
"""
