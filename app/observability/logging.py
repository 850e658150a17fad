"""One JSON line per event on stdout, also for what libraries log. What looks like a key is blanked in every line."""

import logging
import re
import sys
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
    shared: list[Processor] = [
        _of_request,
        structlog.stdlib.add_log_level,
        _timed,
        structlog.processors.format_exc_info,
    ]
    renderers: list[Processor] = [_render_json] if form == "json" else [redact, structlog.dev.ConsoleRenderer()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # A line and its end in one write: other threads and workers write to the same place.
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    handler.addFilter(lambda record: not _UPGRADE_WARNING.search(str(record.msg)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
    for library in ("alembic", "asyncio", "sqlalchemy", "uvicorn"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))


def _of_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**_request.get({}), **event}


def _timed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return event


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


def _render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    line = _dump(event)
    lowered = line.lower()
    if "sk-" in lowered or "bearer" in lowered or "://" in lowered:
        return _dump(redact(logger, method, event))
    # Nothing that _SECRET would find: looking through every value is dear.
    return line


def _dump(event: EventDict) -> str:
    return orjson.dumps(event, default=lambda value: _redacted(repr(value))).decode()
