"""The rules of the house that a machine can check."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "app").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES = 300
MOST_MODULES = 12
# The names that a reader finds in more than one room, and that mean the same in each.
RESOURCES = {"audit", "keys", "limits", "prices", "projects", "secrets", "settings", "upstreams", "usage"}
PARTS = {"errors", "expiry", "locks", "records", "store", "tables", "writes"}
# Words that had to be learnt, and have given way to words of the trade (ADR 43).
DROPPED = re.compile(
    r"seat|illness|ailment|conductor|performance|stage|keeper|roster|pour|outbox|fold|dressed", re.IGNORECASE
)


def test_imports_keep_to_the_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_module_fits_in_the_head_and_says_what_it_holds() -> None:
    lines = {path: path.read_text().splitlines() for path in (*MODULES, *TESTS)}
    assert [str(path.relative_to(ROOT)) for path, own in lines.items() if len(own) > MOST_LINES] == []
    assert [str(path.relative_to(ROOT)) for path in MODULES if not "\n".join(lines[path][:1]).startswith('"""')] == []


def test_no_room_has_more_modules_than_can_be_read_at_a_glance() -> None:
    rooms = Counter(path.parent for path in MODULES if not path.stem.startswith("__"))
    assert {str(room.relative_to(ROOT)): count for room, count in rooms.items() if count > MOST_MODULES} == {}


def test_two_modules_of_one_name_are_alike() -> None:
    names = Counter(path.stem for path in MODULES if not path.stem.startswith("__"))
    assert {name for name, count in names.items() if count > 1} <= RESOURCES | PARTS


def test_no_name_has_to_be_learnt() -> None:
    named = [path.stem for path in MODULES]
    for path in MODULES:
        nodes = ast.walk(ast.parse(path.read_text()))
        named += [
            node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    words = {word for name in named for word in re.findall(r"[a-z0-9]+|[A-Z][a-z0-9]*", name)}
    assert {word for word in words if DROPPED.fullmatch(word.rstrip("s"))} == set()


def test_nothing_wraps_the_stream() -> None:
    # Starlette's function middleware hides a client's disconnect from what it wraps (starlette#1715).
    for module in MODULES:
        assert not re.search(r"BaseHTTPMiddleware|@app\.middleware|StreamingResponse", module.read_text()), module


def test_nobody_but_the_settings_asks_which_api_an_upstream_speaks() -> None:
    """Others ask for what follows from it (ADR 45)."""
    asking = [module for module in MODULES if re.search(r"upstream\.api\b|\bapi [!=]= ", module.read_text())]
    assert [module for module in asking if module.parent.name != "settings"] == []


def test_no_sql_is_put_together_from_text() -> None:
    for module in (ROOT / "app" / "storage").rglob("*.py"):
        assert not re.search(r"""text\(\s*f["']|exec_driver_sql\(\s*f["']""", module.read_text()), module


def test_no_committed_file_names_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # In halves, so that this file is not one that names them.
    halves = ("py", "pi.org"), ("python", "hosted"), ("registry.", "npmjs"), ("deb.", "debian")
    address = re.compile("|".join(re.escape(first + second) for first, second in halves), re.IGNORECASE)
    for path in filter(Path.is_file, (ROOT / name for name in listed.stdout.splitlines())):
        assert not address.search(path.read_text(errors="ignore")), path


def test_every_locked_package_is_pinned_by_hash() -> None:
    for lock, least in (("runtime", 20), ("dev", 20), ("redis", 1)):
        requirements = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{lock}.txt").read_text().strip())
        assert len(requirements) >= least
        for requirement in requirements:
            assert re.match(r"^[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+", requirement), requirement
            assert "--hash=sha256:" in requirement, requirement
