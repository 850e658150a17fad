"""Run the mutants: `python -m tests.mutants [WORDS]`, all of them or those whose rule has these words.

First the named tests have to pass, then each has to fail on its mutant. The source itself is not touched.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.mutants.rules import MUTANTS, Mutant

_ROOT = Path(__file__).parents[2]
_SECONDS = 600
# What pytest returns where tests ran and some failed.
_FAILED = 1


def main(words: str) -> int:
    """Returns 0 when every mutant is caught."""
    chosen = [mutant for mutant in MUTANTS if words in mutant.rule]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "source"
        _copy(copy)
        status, said = _run(copy, dict.fromkeys(mutant.caught_by for mutant in chosen))
        if status:
            print(said, "The tests fail without any mutant.", sep="\n")
            return 1
        alive = [mutant for mutant in chosen if not _is_caught(mutant, copy)]
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants were caught.")
    return 1 if alive or not chosen else 0


def _is_caught(mutant: Mutant, copy: Path) -> bool:
    file = copy / mutant.file
    source = file.read_text()
    if source.count(mutant.line) != 1:
        print(f"stale   {mutant.rule}: its line stands {source.count(mutant.line)} times in {mutant.file}")
        return False
    file.write_text(source.replace(mutant.line, mutant.instead))
    try:
        status, said = _run(copy, [mutant.caught_by])
    finally:
        file.write_text(source)
    print(f"{'caught ' if status == _FAILED else 'ALIVE  '} {mutant.rule}", flush=True)
    if status not in {0, _FAILED}:
        print(said)
    return status == _FAILED


def _copy(copy: Path) -> None:
    """Copy what git knows of, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (_ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, copy / name)


def _run(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    command: Sequence[str] = (sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *tests)
    done = subprocess.run(command, cwd=copy, capture_output=True, timeout=_SECONDS, check=False)
    return done.returncode, done.stdout.decode(errors="replace")[-4000:]


if __name__ == "__main__":
    raise SystemExit(main(" ".join(sys.argv[1:])))
