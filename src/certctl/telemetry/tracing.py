"""Traces of a certificate's life, by OpenTelemetry, where an installation asks for them; else nothing is imported.

A trace's context is a traceparent text (W3C Trace Context 3.2), kept in the job's row and handed to agents, so that one
trace goes through every process that works on a job. Spans carry the facts of `Facts` and no other: must never carry a
message, a header, a body, a name of a person or a secret. A collector that is gone costs dropped spans, never time.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal, Protocol, TypedDict, Unpack

import structlog

Kind = Literal["internal", "server", "consumer", "client"]

# version 00; a later version may say more after the flags (3.2.4), which is not read
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_STOP_SECONDS = 3.0


class Facts(TypedDict, total=False):
    """Everything that a span may carry."""

    job_id: str
    job_type: str
    step_id: str
    certificate_id: str
    agent_id: str
    target_id: str
    issuer_id: str
    request_id: str
    attempt: int
    method: str
    route: str
    status: int


ATTRIBUTES = {
    **{name: f"certctl.{name}" for name in Facts.__annotations__},
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
}


class Span(Protocol):
    """A span that is open."""

    def note(self, **facts: Unpack[Facts]) -> None:
        """Add facts."""
        ...

    def rename(self, name: str) -> None:
        """Give it the name that is known only now."""
        ...

    def failed(self, code: str) -> None:
        """What it stands for did not succeed; `code` is an error's stable code, never its message."""
        ...


class _Nothing:
    """The span of a process that traces nothing."""

    def note(self, **facts: Unpack[Facts]) -> None:
        """Nothing."""

    def rename(self, name: str) -> None:
        """Nothing."""

    def failed(self, code: str) -> None:
        """Nothing."""


class Tracing(Protocol):
    """What `telemetry.otel` makes of a span's beginning; kept apart so that this module imports nothing of it."""

    def open(self, name: str, parent: str, kind: Kind, facts: Mapping[str, Any]) -> tuple[Span, str]:
        """A span and its traceparent; `parent` empty begins a trace."""
        ...

    def close(self, span: Span) -> None:
        """The span is over."""
        ...

    def shutdown(self) -> None:
        """Send what is left; may take its time."""
        ...


_NOTHING = _Nothing()
_tracing: Tracing | None = None
_current: ContextVar[str] = ContextVar("certctl_traceparent", default="")
_steps: ContextVar[Mapping[str, Span]] = ContextVar("certctl_spans_of_steps", default={})  # noqa: B039 - never changed


def is_on() -> bool:
    """Whether this process traces."""
    return _tracing is not None


def use(tracing: Tracing | None) -> None:
    """Trace into `tracing` from now on, or no more."""
    global _tracing  # noqa: PLW0603 - one a process, as its log is
    _tracing = tracing


def stop() -> None:
    """Send what is left, for a few seconds at most, and trace no more."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is not None:
        sending = threading.Thread(target=tracing.shutdown, name="traces-last", daemon=True)
        sending.start()
        sending.join(_STOP_SECONDS)


def traceparent() -> str:
    """The context of the span that is open here, to be kept or sent; empty when there is none."""
    return _current.get()


def parse_traceparent(text: str) -> tuple[str, str, int] | None:
    """Trace id, parent id (lowercase hex) and flags; None for anything malformed, which begins a new trace (4.3)."""
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace_id, parent_id, flags = match.groups()
    if version == "ff" or not int(trace_id, 16) or not int(parent_id, 16) or (version == "00" and len(text) != 55):
        return None
    return trace_id, parent_id, int(flags, 16)


@contextlib.contextmanager
def span(name: str, *, parent: str = "", kind: Kind = "internal", **facts: Unpack[Facts]) -> Iterator[Span]:
    """A span for the length of the block, beneath `parent` or else the one open here; log lines carry its ids."""
    if _tracing is None:
        yield _NOTHING
        return
    tracing = _tracing
    opened, context = tracing.open(name, parent or _current.get(), kind, _named(facts))
    try:
        with _here(context):
            yield opened
    except BaseException as error:
        opened.failed(getattr(error, "code", type(error).__name__))
        raise
    finally:
        tracing.close(opened)


@contextlib.contextmanager
def beneath(parent: str) -> Iterator[None]:
    """What is opened in the block belongs to the trace of `parent`: for work that is done together with others'."""
    if _tracing is None:
        yield
        return
    with _here(parent):
        yield


@contextlib.contextmanager
def spans(name: str, of: Mapping[str, tuple[str, Facts]]) -> Iterator[None]:
    """A span for each step of a batch, by step id: its parent's context and its facts. `step_failed` marks one of them.

    Steps of a batch belong to traces of their own: only that of a single step is the one that is open here.
    """
    if _tracing is None:
        yield
        return
    tracing, opened, context = _tracing, {}, ""
    for step_id, (parent, facts) in of.items():
        opened[step_id], context = tracing.open(name, parent, "consumer", _named(facts))
    token = _steps.set(opened)
    try:
        with _here(context if len(opened) == 1 else ""):
            yield
    except BaseException as error:
        for each in opened.values():
            each.failed(getattr(error, "code", type(error).__name__))
        raise
    finally:
        _steps.reset(token)
        for each in opened.values():
            tracing.close(each)


def step_failed(step_id: str, code: str) -> None:
    """The step's stage settled a failure."""
    found = _steps.get().get(step_id)
    if found is not None:
        found.failed(code)


@contextlib.contextmanager
def _here(context: str) -> Iterator[None]:
    token = _current.set(context)
    parts = parse_traceparent(context)
    ids = {"trace_id": parts[0], "span_id": parts[1]} if parts else {}
    try:
        with structlog.contextvars.bound_contextvars(**ids):
            yield
    finally:
        _current.reset(token)


def _named(facts: Facts) -> dict[str, Any]:
    return {ATTRIBUTES[name]: value for name, value in facts.items() if value not in {"", None}}
