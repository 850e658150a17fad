"""The log: one line of JSON an event, whoever speaks, and no secret in any of them."""

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import structlog

from app.observability.logging import begin_request, configure

Read = Callable[[], list[str]]

_KEY = "sk-aph_Ep10Lfej9i4IWVSwLF5W7RXM7llcUMDo49Yt9X"
_LIBRARIES = ("alembic", "asyncio", "sqlalchemy", "uvicorn")


@pytest.fixture
def read(capfd: pytest.CaptureFixture[str]) -> Iterator[Read]:
    """The lines that were written to stdout. Logging is as it was before, afterwards."""
    root = logging.getLogger()
    before = structlog.get_config()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in _LIBRARIES}

    # Not splitlines: U+2028 ends no line here.
    def lines() -> list[str]:
        for handler in root.handlers:
            handler.flush()
        return [line for line in capfd.readouterr().out.split("\n") if line]

    yield lines
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


def only(lines: list[str]) -> dict[str, Any]:
    (line,) = lines
    found = orjson.loads(line)
    assert isinstance(found, dict)
    return found


def our_own(event: str, **members: Any) -> None:
    structlog.get_logger("antiphon.test").warning(event, **members)


def a_library(event: str, **members: Any) -> None:
    logging.getLogger("uvicorn.error").warning(event, **members)


def refuse() -> None:
    raise ValueError(f"refused {_KEY}")


@pytest.mark.parametrize("speak", [our_own, a_library])
def test_an_event_is_one_line_of_json_whoever_speaks(read: Read, speak: Callable[[str], None]) -> None:
    configure("info", "json")
    begin_request("req_1")
    speak('a "quoted"\nline\u2028 with é')
    line = only(read())
    assert line["event"] == 'a "quoted"\nline\u2028 with é'
    assert (line["level"], line["request_id"]) == ("warning", "req_1")
    assert line["timestamp"].endswith("Z")
    assert line.keys() == {"event", "level", "request_id", "timestamp"}


def test_lines_of_several_threads_are_never_run_together(read: Read) -> None:
    configure("info", "json")

    def speak(number: int) -> None:
        for _ in range(50):
            our_own("ours", number=number, text="x" * 500)
            a_library("theirs")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(speak, range(4)))
    said = [orjson.loads(line)["event"] for line in read()]
    assert (said.count("ours"), said.count("theirs")) == (200, 200)


@pytest.mark.parametrize("speak", [our_own, a_library])
def test_an_exception_is_in_its_line_with_its_secrets_blanked(read: Read, speak: Callable[..., None]) -> None:
    configure("info", "json")
    try:
        refuse()
    except ValueError:
        speak("failed", exc_info=sys.exc_info())
    line = only(read())
    assert "ValueError: refused [redacted]" in line["exception"]
    assert "Traceback" in line["exception"]
    assert "exc_info" not in line


@pytest.mark.parametrize(
    "secret",
    [
        _KEY,
        "sk-proj-abcdefgh12345678",
        "Bearer abc.def",
        "bearer  abc",
        "postgresql://user:hunter2@db/antiphon",
        f"key={_KEY},",
    ],
)
@pytest.mark.parametrize("place", ["event", "text", "nested", "listed", "object", "library"])
def test_what_looks_like_a_secret_is_blanked_wherever_it_stands(read: Read, secret: str, place: str) -> None:
    configure("info", "json")
    if place == "event":
        our_own(f"before {secret} after")
    elif place == "text":
        our_own("event", text=f"before {secret} after")
    elif place == "nested":
        our_own("event", headers={"authorization": f"before {secret} after"})
    elif place == "listed":
        our_own("event", problems=("one", [f"before {secret} after"]))
    elif place == "object":
        our_own("event", error=ValueError(f"before {secret} after"))
    else:
        logging.getLogger("httpx").warning("before %s after", secret)
    (line,) = read()
    assert "[redacted]" in line
    assert "before" in line
    assert "after" in line
    for part in (_KEY, "abcdefgh12345678", "abc", "hunter2"):
        assert part not in line


def test_what_only_resembles_a_secret_stays(read: Read) -> None:
    configure("info", "json")
    our_own("event", text="https://host:8080/v1 task-list sk-1 resp_0123 ask-me@example.org", count=12, ok=True)
    line = only(read())
    assert line["text"] == "https://host:8080/v1 task-list sk-1 resp_0123 ask-me@example.org"
    assert (line["count"], line["ok"]) == (12, True)


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_written(read: Read, level: str, kept: list[str]) -> None:
    configure(level, "json")
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), name)("ours")
    assert [orjson.loads(line)["level"] for line in read()] == kept


def test_libraries_are_kept_quieter_than_ourselves(read: Read) -> None:
    configure("debug", "json")
    logging.getLogger("some.package").debug("chatter")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    assert read() == []
    logging.getLogger("some.package").info("news")
    logging.getLogger("uvicorn.error").warning("trouble")
    assert [orjson.loads(line)["event"] for line in read()] == ["news", "trouble"]
    configure("error", "json")
    logging.getLogger("some.package").warning("trouble")
    assert read() == []


def test_a_library_that_logs_badly_does_no_harm(read: Read) -> None:
    configure("info", "json")
    logging.getLogger("some.package").warning("%d streams", "no number")
    logging.getLogger("some.package").warning("next")
    assert only(read())["event"] == "next"


def test_the_console_form_is_text_for_people(read: Read) -> None:
    configure("info", "console")
    our_own("it happened", key=_KEY, count=3)
    a_library("the server says")
    ours, theirs = read()
    assert "it happened" in ours
    assert "count" in ours
    assert _KEY not in ours
    assert "the server says" in theirs
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(ours)
