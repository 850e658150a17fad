"""Log one JSON line per event on stdout, also for what libraries log; redact what looks like a key in every line.

A call that logs never waits for the log and never fails by it: lines are written by a thread (`line_writer`).
"""

import logging
import re
import sys
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.observability.line_writer import LineWriter

_SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|(?i:bearer)\s+\S+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_REDACTED = "[redacted]"
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_STDOUT = 1
# The time for waiting lines at the end of the process.
_FLUSH_SECONDS = 1.0


_request: ContextVar[EventDict] = ContextVar("antiphon_request")


def begin_request(request_id: str) -> None:
    """Set the request id of this task's lines, and of the tasks that it starts."""
    _request.set({"request_id": request_id})


def request_id() -> str:
    """Return the id of the request that this task serves; empty outside of one."""
    return str(_request.get({}).get("request_id", ""))


def note(**facts: Any) -> None:
    """Add these facts to the lines of the request that is being served."""
    _request.get({}).update(facts)


def configure(level: str, form: str, *, is_shared: bool = False) -> None:
    """Set up logging for the process. `form` is "json" or "console"; others write to the same stdout if `is_shared`."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    lines = LineWriter(_stdout(), _drop_notice if form == "json" else _drop_notice_text, is_shared=is_shared)
    is_json = form == "json"
    theirs: list[Processor] = [_json_text] if is_json else _console_lines()
    by_level = structlog.make_filtering_bound_logger(threshold)
    structlog.configure(
        processors=[_json_line] if is_json else [*_console_lines(), _console_line],
        wrapper_class=type("JsonLogger", (_InOneStep, by_level), {}) if is_json else by_level,
        logger_factory=lambda *_: _Logger(lines),
    )
    handler = _Handler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *theirs]
        )
    )
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, _Handler):
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
    for library in ("alembic", "asyncio", "sqlalchemy", "uvicorn"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))


def flush(seconds: float) -> None:
    """Write the lines that still wait, within so many seconds: before an exit without cleanup."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.flush(seconds)


class _Logger:
    """Pass the finished lines of structlog to the writer, whatever their level."""

    def __init__(self, lines: LineWriter) -> None:
        self.msg = lines.write
        self.debug = self.info = self.warning = self.error = self.critical = lines.write


class _InOneStep(structlog.BoundLoggerBase):
    """Make the line of an event in one step: every request has one, and a chain of processors costs twice as much."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> Any:
        line = _json_line(None, method_name, {**self._context, **event_kw, "event": event})
        return getattr(self._logger, method_name)(line)


class _Handler(logging.Handler):
    """Write the lines of libraries. A line that cannot be formatted is left out. `logging` flushes this at exit."""

    def __init__(self, lines: LineWriter) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self._lines.write(self.format(record).encode(errors="backslashreplace") + b"\n")

    def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        self._lines.flush(seconds)

    def close(self) -> None:
        self._lines.close(_FLUSH_SECONDS)
        super().close()


def _stdout() -> int | None:
    # Where stdout was closed at start Python has none, and its number may be another file's by now.
    return None if sys.stdout is None else _STDOUT


def _drop_notice(count: int) -> bytes:
    return _json_line(
        None, "warning", {"event": "log lines were dropped, because they could not be written", "count": count}
    )


def _drop_notice_text(count: int) -> bytes:
    return b"warning: %d log lines were dropped, because they could not be written\n" % count


def _json_line(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Make the JSON line of an event; in one step, because every request has one."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    line = {**_request.get({}), **event, "level": method, "timestamp": datetime.now(UTC)}
    written = _dump(line)
    # Only such lines can match _SECRET, and a search through every value is dear; `in` tries bytes as a number first.
    find = written.find
    if find(b"sk-") >= 0 or find(b"@") >= 0 or written.lower().find(b"bearer") >= 0:
        return _dump(redact(logger, method, line))
    return written


def _json_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    # The handler adds the line end.
    return _json_line(logger, method, event)[:-1].decode()


def _dump(line: EventDict) -> bytes:
    try:
        return orjson.dumps(line, default=_shown, option=_OPTIONS)
    except orjson.JSONEncodeError:
        # Lone surrogates or endless numbers: shown as Python writes them.
        return orjson.dumps({str(name): _shown(value) for name, value in line.items()}, option=_OPTIONS)


def _shown(value: object) -> str:
    """Represent a value that is no JSON, with secrets redacted."""
    try:
        return _SECRET.sub(_REDACTED, repr(value))
    except Exception:  # noqa: BLE001 (a value without a repr must not fail the call that logs it)
        return f"<{type(value).__name__}>"


def _console_lines() -> list[Processor]:
    return [
        _of_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer(),
    ]


def _console_line(_logger: WrappedLogger, _method: str, text: Any) -> bytes:
    return str(text).encode(errors="backslashreplace") + b"\n"


def _of_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**_request.get({}), **event}


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact what looks like a key or a password in every text of the line."""
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET.sub(_REDACTED, value)
    if isinstance(value, dict):
        return {name: _redacted(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(element) for element in value]
    return value
