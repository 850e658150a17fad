"""One JSON line per event on stdout, also for what libraries log. What looks like a key is blanked in every line."""

import logging
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|(?i:bearer)\s+\S+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_BLANK = "[redacted]"
# The server warns of each upgrade that it does not serve; the request's own line says it already.
_UPGRADE_WARNING = re.compile(r"^Unsupported upgrade request")


_request: ContextVar[EventDict] = ContextVar("antiphon_request")


def begin_request(request_id: str) -> None:
    """From here on this task's lines, and those of tasks that it starts, say which request they belong to."""
    _request.set({"request_id": request_id})


def request_id() -> str:
    """The id of the request that this task serves; empty outside of one."""
    return str(_request.get({}).get("request_id", ""))


def note(**facts: Any) -> None:
    """Add these facts to the lines of the request that is being served."""
    _request.get({}).update(facts)


def configure(level: str, form: str) -> None:
    """Set up logging for the process. `form` is "json" or "console"."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # Both write a line and its end at once: other threads and workers write to the same place.
    factory: Callable[..., WrappedLogger]
    ours: list[Processor]
    theirs: list[Processor]
    if form == "json":
        ours, theirs, factory = [_json_line], [_json_text], structlog.BytesLoggerFactory(sys.stdout.buffer)
    else:
        ours = theirs = _console_lines()
        factory = structlog.WriteLoggerFactory(sys.stdout)
    structlog.configure(
        processors=ours, wrapper_class=structlog.make_filtering_bound_logger(threshold), logger_factory=factory
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *theirs]
        )
    )
    handler.addFilter(lambda record: not _UPGRADE_WARNING.search(str(record.msg)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
    for library in ("alembic", "asyncio", "sqlalchemy", "uvicorn"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))


def _json_line(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """The event as a line; all in one step, because every request has one."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    line = {**_request.get({}), **event, "level": method, "timestamp": datetime.now(UTC)}
    written = _dump(line)
    # Nothing else has what _SECRET would find, and looking through every value is dear.
    if b"sk-" in written or b"@" in written or b"bearer" in written.lower():
        return _dump(redact(logger, method, line))
    return written


def _json_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    return _json_line(logger, method, event).decode()


def _dump(line: EventDict) -> bytes:
    return orjson.dumps(line, default=_shown, option=orjson.OPT_UTC_Z)


def _shown(value: object) -> str:
    """What is no JSON, as it is shown."""
    return _SECRET.sub(_BLANK, repr(value))


def _console_lines() -> list[Processor]:
    return [
        _of_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer(),
    ]


def _of_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**_request.get({}), **event}


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what looks like a key or a password in every text of the line."""
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET.sub(_BLANK, value)
    if isinstance(value, dict):
        return {name: _redacted(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(element) for element in value]
    return value
