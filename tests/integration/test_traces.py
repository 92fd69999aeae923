"""One trace follows a certificate through server, worker and agent, and a collector that hangs holds nobody up."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from certctl.telemetry.tracing import ATTRIBUTES
from peers.collector import Collector, Seen
from peers.fleet import Fleet

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

STAGES = {"request", "approve", "prepare", "issue", "record", "deploy", "verify"}


class TracedFleet(Fleet):
    """Server and agent send their traces; their logs are JSON."""

    endpoint = ""

    def _environ(self, die_at: str, who: str) -> dict[str, str]:
        return super()._environ(die_at, who) | {
            "CERTCTL_OTEL_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }

    def _spawn(self, name: str, script: Path, arguments: list[str], environ: dict[str, str]) -> Any:
        return super()._spawn(name, script, arguments, environ | {"CERTCTL_LOG_FORMAT": "json"})

    def lines(self, name: str) -> list[dict]:
        text = (self.directory / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def play(tmp_path: Path, endpoint: str) -> TracedFleet:
    # with the leases of tests that kill, a busy machine would do a step twice, and both would be in the trace
    fleet = TracedFleet(tmp_path / "fleet", CERTCTL_STEP_LEASE="60s")
    fleet.endpoint = endpoint
    try:
        fleet.furnish()
        fleet.request()
        fleet.wait(lambda: fleet.verified("cert-shop"), "deployed and verified", seconds=90)
    except BaseException:
        fleet.stop()
        raise
    return fleet


def whole(seen: list[Seen]) -> list[Seen]:
    """The trace of the certificate once every stage and every parent has arrived; nothing before."""
    asked = [span for span in seen if span.name == "POST /api/v1/certificates"]
    trace = [span for span in seen if asked and span.trace_id == asked[0].trace_id]
    ids = {span.span_id for span in trace}
    arrived = {span.name for span in trace} >= STAGES and all(span.parent_id in {*ids, ""} for span in trace)
    return trace if arrived else []


def test_one_trace_from_request_to_verified(tmp_path):
    with Collector() as collector:
        fleet = play(tmp_path, collector.url)
        try:
            secrets = {fleet.key, (fleet.server_dir / "bootstrap-token").read_text().strip(), fleet._token}
            secrets.add(json.loads((fleet.agent_dir / "state" / "agent.json").read_text())["credential"])
            jobs = {job["id"]: job for job in fleet.get("/api/v1/jobs?certificate_id=cert-shop")["data"]}
            fleet.wait(lambda: whole(collector.spans()), "the whole trace has arrived", seconds=60)
        finally:
            fleet.stop()
        seen = collector.spans()
        raw = collector.raw

    trace = whole(seen)
    (asked,) = [span for span in trace if span.name == "POST /api/v1/certificates"]
    ours = [span for span in seen if span.facts.get("certctl.certificate_id") == "cert-shop"]
    assert {span.trace_id for span in ours} == {asked.trace_id}, "all of it is one trace"
    assert asked.parent_id == ""
    (request,) = [span for span in trace if span.name == "request"]
    assert request.parent_id == asked.span_id

    where = {span.name: span.service for span in trace if span.name in STAGES}
    assert {name for name, service in where.items() if service == "certctl-agent"} == {"prepare", "deploy", "verify"}
    assert {service for name, service in where.items() if name in {"approve", "issue", "record"}} == {"certctl-server"}
    # the CA's answer is a span of its own, beneath the stage that asked for it
    (issue,) = [span for span in trace if span.name == "issue"]
    (call,) = [span for span in trace if span.name == "ca.submit"]
    assert (call.parent_id, call.failed) == (issue.span_id, False)
    assert call.facts["certctl.issuer_id"] == "iss-local"
    assert call.facts["certctl.job_id"] == issue.facts["certctl.job_id"]
    # each job tells which trace is its own
    assert {job["trace_id"] for job in jobs.values()} == {asked.trace_id}
    # the agent's results come back beneath the span of the work that made them
    (made,) = [span for span in trace if span.name == "prepare"]
    (sent,) = [span for span in trace if span.name == "POST /api/v1/agents/{agent_id}/csr"]
    assert (sent.parent_id, sent.service) == (made.span_id, "certctl-server")

    _judge_facts(trace, jobs)
    assert not [secret for secret in secrets if secret.encode() in raw]
    assert b"-----BEGIN" not in raw
    _judge_logs(fleet, asked)


def _judge_facts(trace: list[Seen], jobs: dict[str, dict]) -> None:
    allowed = {*ATTRIBUTES.values(), "error.type"}
    for span in trace:
        assert set(span.facts) <= allowed, span
        if span.name in STAGES:
            assert span.facts["certctl.certificate_id"] == "cert-shop"
            assert jobs[span.facts["certctl.job_id"]]["type"] == span.facts["certctl.job_type"]
            assert not span.failed


def _judge_logs(fleet: TracedFleet, asked: Seen) -> None:
    """A log line leads to its trace, its request and its job, and back."""
    server = fleet.lines("server")
    (line,) = [
        one
        for one in server
        if one["event"] == "request" and one["path"] == "/api/v1/certificates" and one["method"] == "POST"
    ]
    assert (line["trace_id"], line["request_id"]) == (asked.trace_id, asked.facts["certctl.request_id"])
    assert all(one["request_id"] for one in server if one["event"] == "request")
    done = [one for one in fleet.lines("agent") if one["event"] == "agent.step_done"]
    assert done
    assert {one["trace_id"] for one in done} == {asked.trace_id}
    assert all(one["job_id"] and one["step_id"] for one in done)


def test_a_collector_that_takes_and_never_answers_holds_nobody_up(tmp_path):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(64)
        fleet = play(tmp_path, f"http://127.0.0.1:{hole.getsockname()[1]}")
        for process in (fleet.agent, fleet.server):
            process.terminate()
            assert process.wait(60) == 0, "it ends by itself, though its last spans went nowhere"
        fleet.stop()


def test_a_protocol_that_is_not_spoken_is_refused(tmp_path):
    from integration.test_server_start import Server

    server = Server(tmp_path / "data", CERTCTL_OTEL_ENABLED="true", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "only http/protobuf is supported" in server.refused()
