"""Run the verbs of the `antiphon` command: parse options, call `administration`, print a table or JSON.

Verb: `create` in `antiphon keys create`; a module for each noun. Operator: the person who types the command, named in
the audit log by their login. Installation: the database and secrets that the settings name (`boot.installation`).

Entry points: `app.__main__` adds the verbs; `console.administer` and `console.query` open the installation for them.

* A verb that reads writes nothing: tests/live/test_reading_verbs.py.
* Verbs follow the rules of REST, and name their operator in the audit log: tests/live/test_admin_command.py.
* A mistake is one line and status 1: tests/live/test_command.py, tests/live/test_admin_command.py.
* No secret is an argument of a command: tests/live/test_admin_command.py.
* `antiphon version` imports nothing heavy: tests/live/test_admin_command.py.
"""
