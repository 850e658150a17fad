"""Read and validate the settings: every option with its default and limits, from flags, environment and a TOML file.

Group: one table of settings (`[server]`), a pydantic model. Source: one place that values come from, with the name that
the operator wrote each by. Reference: `env:NAME` or `file:/path`, which stands for a secret in the file.

Entry points: `gateway.load_settings` (returns `gateway.Settings`), `gateway.read_again` (for a reload).

* A Settings object that exists is valid, and every problem is reported at once: tests/settings/test_gateway.py.
* No error or repr has a secret: tests/settings/test_secret_references.py, tests/architecture/test_secret_holders.py.
* An unknown name is refused, with a suggestion: tests/settings/test_sources.py.
* docs/settings.md is written from the settings: tests/settings/test_docs.py.
"""
