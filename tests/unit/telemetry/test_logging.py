"""One line an event, the same shape from structlog and the standard library, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret
from certctl.telemetry.logging import configure_logging, get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        get_logger("certctl.x").info("thing.happened", count=3)
        logging.getLogger("lib").warning("old %s", "style", extra={"job_id": "j"})
    get_logger("certctl.x").debug("thing.hidden")
    first, second = lines(stream)
    assert (first["event"], first["count"], first["request_id"], first["level"]) == ("thing.happened", 3, "r-1", "info")
    assert first["logger"] == "certctl.x"
    moment = datetime.fromisoformat(str(first["timestamp"]))
    assert moment.utcoffset() is not None
    assert (second["event"], second["logger"], second["request_id"], second["job_id"]) == (
        "old style",
        "lib",
        "r-1",
        "j",
    )


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_secrets_never_show(stream: io.StringIO, log_format: str) -> None:
    configure_logging("debug", log_format, stream)  # type: ignore[arg-type]
    secret = Secret("hunter2")
    log = get_logger("x")
    log.info("a", token=secret, deep={"list": [secret, (secret,)]}, error=Misconfigured("mend it", detail="more"))
    logging.getLogger("lib").info("b %s", secret, extra={"token": secret})
    try:
        raise ValueError("broken")  # noqa: TRY301
    except ValueError:
        log.exception("c", token=secret)
    assert "hunter2" not in stream.getvalue()
    assert "redacted" in stream.getvalue()
    assert "ValueError: broken" in stream.getvalue()
    assert "mend it" in stream.getvalue()


def test_errors_are_told_by_kind(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("x").error("failed", error=Misconfigured("mend it", detail="more"))
    (line,) = lines(stream)
    assert (line["error"], line["error_kind"], line["detail"]) == ("mend it", "misconfigured", "more")


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure_logging("loud")
