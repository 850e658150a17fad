"""Failures of the comparisons say what differs."""

import pytest

pytest.register_assert_rewrite("tests.exchanges.surfaces", "tests.fakes.openai_types")
