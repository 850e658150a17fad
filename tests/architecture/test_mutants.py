"""Each mutant is of a line that is there, and names a test that is."""

from pathlib import Path

import pytest

from tests.mutants.rules import MUTANTS, Mutant

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_mutant_is_of_a_line_that_is_there_and_names_a_test_that_is(mutant: Mutant) -> None:
    assert (_ROOT / mutant.file).read_text().count(mutant.line) == 1
    file, _, test = mutant.caught_by.partition("[")[0].partition("::")
    assert f"def {test}" in (_ROOT / file).read_text()
