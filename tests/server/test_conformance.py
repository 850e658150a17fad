"""The tables of what is taken and refused name tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "http-conformance.md"


def test_every_row_names_a_test_that_there_is() -> None:
    lines = TABLE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| Requirement", "| ---"))]
    assert len(rows) > 50
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", row)
        assert named, row
        for path, test in named:
            wanted = test or r"test_\w+"
            assert re.search(rf"^(?:async )?def {wanted}\(", (ROOT / path).read_text(), re.MULTILINE), (path, test)
