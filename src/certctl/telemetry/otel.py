"""The OpenTelemetry side of `telemetry.tracing`: the SDK, configured by OTEL_* variables, sending OTLP over HTTP.

Imported only where tracing is on. Spans are queued and sent by a thread of the SDK's own; the queue is bounded and what
does not fit is dropped. Must never be made the process's global provider: nobody else's spans are sent from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from certctl.core.errors import Misconfigured
from certctl.telemetry import tracing
from certctl.telemetry.tracing import ATTRIBUTES, Kind

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
}
_PROTOCOL = "http/protobuf"


class OtelSpan:
    """One open span."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def note(self, **facts: Any) -> None:
        """Add facts."""
        self.span.set_attributes({ATTRIBUTES[name]: value for name, value in facts.items() if value not in {"", None}})

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.span.update_name(name)

    def failed(self, code: str) -> None:
        """Mark it as failed."""
        self.span.set_status(Status(StatusCode.ERROR))
        self.span.set_attribute("error.type", code)


class OpenTelemetry:
    """One provider a process."""

    def __init__(self, service: str, version: str) -> None:
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
                raise Misconfigured(f"{name} is {os.environ[name]!r}; only {_PROTOCOL} is supported")
        facts = {"service.version": version}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            facts["service.name"] = service
        self._provider = TracerProvider(resource=Resource.create(dict(facts)), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("certctl", version)

    def open(self, name: str, parent: str, kind: Kind, facts: Mapping[str, Any]) -> tuple[OtelSpan, str]:
        """A span beneath `parent`, or the first of a trace; and its own traceparent."""
        context = trace.set_span_in_context(trace.NonRecordingSpan(_context(parent)))
        span = self._tracer.start_span(name, context=context, kind=_KINDS[kind], attributes=dict(facts))
        own = span.get_span_context()
        text = f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}" if own.is_valid else ""
        return OtelSpan(span), text

    def close(self, span: tracing.Span) -> None:
        """The span is over; it is queued."""
        cast("OtelSpan", span).span.end()

    def shutdown(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _context(parent: str) -> SpanContext:
    parts = tracing.parse_traceparent(parent)
    if parts is None:
        return trace.INVALID_SPAN_CONTEXT
    trace_id, parent_id, flags = parts
    return SpanContext(int(trace_id, 16), int(parent_id, 16), is_remote=True, trace_flags=TraceFlags(flags))
