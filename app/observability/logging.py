"""One JSON line per event on stdout, also for what libraries log. What looks like a key is blanked in every line."""

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|(?i:bearer)\s+\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_BLANK = "[redacted]"
# The server warns of each WebSocket upgrade that it does not serve; the request's own line says it already.
_UPGRADE_WARNING = re.compile(r"^(Unsupported upgrade request|No supported WebSocket library)")


def configure(level: str, form: str) -> None:
    """Set up logging for the process. `form` is "json" or "console"."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if form == "console" else structlog.processors.JSONRenderer(serializer=_dump)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(lambda record: not _UPGRADE_WARNING.search(str(record.msg)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
    for library in ("aiosqlite", "alembic", "asyncio", "sqlalchemy", "uvicorn"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))


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


def _dump(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=lambda value: _redacted(repr(value))).decode()
