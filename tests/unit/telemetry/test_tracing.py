"""A trace's context is read strictly and handed on; spans carry what they may; without tracing nothing is done or imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.core.errors import Temporary
from certctl.telemetry import tracing
from certctl.telemetry.tracing import parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Recorded:
    """A span of the recorder below."""

    def __init__(self, name, parent, facts):
        self.name, self.parent, self.facts, self.code, self.closed = name, parent, dict(facts), "", False

    def note(self, **facts):
        self.facts |= facts

    def rename(self, name):
        self.name = name

    def failed(self, code):
        self.code = code


class Recorder:
    def __init__(self):
        self.all = []

    def open(self, name, parent, kind, facts):
        self.all.append(Recorded(name, parent, facts))
        trace = (parse_traceparent(parent) or (f"{len(self.all):032x}",))[0]
        return self.all[-1], f"00-{trace}-{len(self.all):016x}-01"

    def close(self, span):
        assert not span.closed
        span.closed = True

    def shutdown(self):
        self.all.clear()


@pytest.fixture
def recorder():
    made = Recorder()
    tracing.use(made)
    yield made
    tracing.use(None)


def test_a_context_is_read_as_the_recommendation_says():
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-01") == (TRACE, PARENT, 1)
    assert parse_traceparent(f"cc-{TRACE}-{PARENT}-00-what-comes") == (TRACE, PARENT, 0), "a later version is read"
    for wrong in (
        "",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\r\nX: y",
        f"00-{TRACE}-{PARENT}-01\n",
    ):
        assert parse_traceparent(wrong) is None, wrong


@settings(max_examples=60)
@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}"))
def test_what_is_read_is_safe_to_send(text):
    found = parse_traceparent(text)
    if found is not None:
        trace_id, parent_id, flags = found
        assert int(trace_id, 16) > 0
        assert int(parent_id, 16) > 0
        assert 0 <= flags < 256
        assert "\n" not in text[:55]


def test_a_span_hands_its_context_on_and_closes(recorder):
    with tracing.span("request", job_id="job-1", agent_id="") as outer:
        assert parse_traceparent(tracing.traceparent())
        assert structlog.contextvars.get_contextvars()["trace_id"] == f"{1:032x}"
        with pytest.raises(Temporary), tracing.span("issue", parent=f"00-{TRACE}-{PARENT}-01"):
            assert structlog.contextvars.get_contextvars()["trace_id"] == TRACE
            raise Temporary("with a secret in it")
        outer.note(status=201)
    first, second = recorder.all
    assert first.facts == {"certctl.job_id": "job-1", "status": 201}, "what is empty is not said"
    assert (second.code, second.closed, first.code, first.closed) == ("temporary", True, "", True)
    assert tracing.traceparent() == ""
    assert "trace_id" not in structlog.contextvars.get_contextvars()


def test_steps_of_a_batch_have_traces_of_their_own(recorder):
    of = {"step-1": (f"00-{TRACE}-{PARENT}-01", {"job_id": "job-1"}), "step-2": ("", {"job_id": "job-2"})}
    with tracing.spans("approve", of):
        assert tracing.traceparent() == "", "none of them is the one"
        tracing.step_failed("step-2", "policy_denied")
        tracing.step_failed("step-9", "not ours")
    assert [(span.parent, span.code, span.closed) for span in recorder.all] == [
        (f"00-{TRACE}-{PARENT}-01", "", True),
        ("", "policy_denied", True),
    ]
    with tracing.spans("issue", {"step-1": of["step-1"]}):
        assert parse_traceparent(tracing.traceparent())[0] == TRACE


def test_off_it_does_nothing():
    with tracing.span("request", job_id="job-1") as span, tracing.spans("issue", {}):
        span.note(status=1)
        span.rename("x")
        span.failed("y")
        tracing.step_failed("step-1", "z")
        assert tracing.traceparent() == ""
    tracing.stop()


def test_a_sender_that_hangs_does_not_hold_up_the_end(monkeypatch):
    import threading

    class Hangs(Recorder):
        def shutdown(self):
            threading.Event().wait()

    monkeypatch.setattr(tracing, "_STOP_SECONDS", 0.05)
    tracing.use(Hangs())
    tracing.stop()
    assert not tracing.is_on()


def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for():
    look = (
        "import sys, certctl.cli.server, certctl.processes, certctl.cli.agent, certctl.agent.loop\n"
        "sys.exit(any(name.startswith(('opentelemetry', 'google.protobuf', 'requests')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", look], timeout=60, check=False).returncode == 0


def test_asked_for_and_not_installed_it_says_what_to_install(tmp_path):
    hidden = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from certctl.cli.{0} import main; sys.argv = ['x', {1}]; main()"
    )
    environ = {
        "PYTHONPATH": ":".join(sys.path),
        "CERTCTL_OTEL_ENABLED": "true",
        "CERTCTL_DATA_DIR": str(tmp_path),
        "CERTCTL_AGENT_STATE_DIR": str(tmp_path),
    }
    for which, argument, code in (("server", "'serve'", 4), ("agent", "'run'", 1)):
        command = [sys.executable, "-c", hidden.format(which, argument)]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == code, ended.stderr
        assert "pip install 'certctl[otel]'" in ended.stderr
