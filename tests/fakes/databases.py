"""Which databases a test runs on, where both are not worth their time in `make test`."""

import pytest

_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.slow)

# For what the kind of database hardly changes, and a process or hundreds of calls make dear.
sqlite_first = pytest.mark.parametrize("database_url", ["sqlite", _POSTGRESQL], indirect=True)
