"""An end that waits for nothing."""

import subprocess
import sys

_ENDS_NOW = """
import structlog
from app.observability import logging
from app.server import run

run._LOG_FLUSH_SECONDS = 60
logging.configure("info", "json")
for number in range(1000):
    structlog.get_logger().info("said", number=number)
run._end_now()
"""


def test_an_end_that_is_forced_loses_no_line_of_the_log() -> None:
    ended = subprocess.run([sys.executable, "-c", _ENDS_NOW], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.count("\n") == 1000
