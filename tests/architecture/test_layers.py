"""The rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "app").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES = 300


def test_imports_keep_to_the_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_module_fits_in_the_head_and_says_what_it_holds() -> None:
    lines = {path: path.read_text().splitlines() for path in (*MODULES, *TESTS)}
    assert [str(path.relative_to(ROOT)) for path, own in lines.items() if len(own) > MOST_LINES] == []
    assert [str(path.relative_to(ROOT)) for path in MODULES if not "\n".join(lines[path][:1]).startswith('"""')] == []


def test_nothing_wraps_the_stream() -> None:
    # Starlette's function middleware hides a client's disconnect from what it wraps (starlette#1715).
    for module in MODULES:
        assert not re.search(r"BaseHTTPMiddleware|@app\.middleware|StreamingResponse", module.read_text()), module


def test_no_sql_is_put_together_from_text() -> None:
    for module in (ROOT / "app" / "storage").glob("*.py"):
        assert not re.search(r"""text\(\s*f["']|exec_driver_sql\(\s*f["']""", module.read_text()), module


def test_no_committed_file_names_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # In halves, so that this file is not one that names them.
    halves = ("py", "pi.org"), ("python", "hosted"), ("registry.", "npmjs"), ("deb.", "debian")
    address = re.compile("|".join(re.escape(first + second) for first, second in halves), re.IGNORECASE)
    for path in filter(Path.is_file, (ROOT / name for name in listed.stdout.splitlines())):
        assert not address.search(path.read_text(errors="ignore")), path


def test_every_locked_package_is_pinned_by_hash() -> None:
    for lock in ("runtime", "dev"):
        requirements = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{lock}.txt").read_text().strip())
        assert len(requirements) > 20
        for requirement in requirements:
            assert re.match(r"^[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+", requirement), requirement
            assert "--hash=sha256:" in requirement, requirement
