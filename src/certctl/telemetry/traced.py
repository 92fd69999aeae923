"""Turns tracing on and off for a process: knows both `tracing` and, where it is asked for, the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from certctl.core.errors import Misconfigured
from certctl.telemetry import tracing


@contextmanager
def traced(service: str, version: str, *, wanted: bool) -> Iterator[None]:
    """Trace for the length of the block, if `wanted`; at its end what is left is sent, within seconds.

    Raises Misconfigured when the extra is not installed, or OTEL_* variables ask for what is not supported.
    """
    if not wanted:
        yield
        return
    try:
        from certctl.telemetry.otel import OpenTelemetry
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"CERTCTL_OTEL_ENABLED is set, but {error.name} is not installed; run: pip install 'certctl[otel]'"
        ) from error
    tracing.use(OpenTelemetry(service, version))
    try:
        yield
    finally:
        tracing.stop()
