"""Logging for every process: one line an event, JSON for machines or text for people, through structlog.

Times are UTC in ISO 8601; context variables (request id, job id) ride along; the standard library's loggers come out
the same way. Must never print the value of a Secret, nor local variables of a trace.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import structlog

from certctl.core.errors import CertctlError
from certctl.core.secret import Secret

LogFormat = Literal["json", "text"]

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}


def configure_logging(level: str = "info", format: LogFormat = "json", stream: TextIO | None = None) -> None:  # noqa: A002 - the word people look for
    """Route structlog and the standard library to `stream` (standard error). Raises ValueError for an unknown level."""
    number = _level_number(level)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _explain_error,
        structlog.processors.format_exc_info,
        _redact_secrets,
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=repr)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:3], structlog.stdlib.ExtraAdder(), *shared[3:]],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    _quieten_chatty_libraries(number)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # Tests and reloads configure more than once; a cached logger would keep the old stream.
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries its module's name as `logger`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(name))


def _level_number(level: str) -> int:
    try:
        return _LEVELS[level.strip().lower()]
    except KeyError:
        raise ValueError(f"log level {level!r} is not known; write one of {', '.join(_LEVELS)}") from None


def _quieten_chatty_libraries(number: int) -> None:
    # httpx tells every call at INFO and httpcore every header at DEBUG: a header may be a credential.
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _explain_error(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace an error value given as `error=` by its code, its message and its detail (which is for logs only)."""
    error = event.get("error")
    if isinstance(error, CertctlError):
        event["error"] = error.message
        event["error_kind"] = error.code
        if error.detail:
            event["detail"] = error.detail
    elif isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


def _redact_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, Secret):
        return "[redacted]"
    if isinstance(value, Mapping):
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(inner) for inner in value]
    return value
