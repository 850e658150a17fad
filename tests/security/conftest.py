"""Keys without a database, and the time as a test has it."""

from tests.api.conftest import authenticator, clock, keys

__all__ = ["authenticator", "clock", "keys"]
