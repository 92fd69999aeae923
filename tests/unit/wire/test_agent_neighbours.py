"""Neighbours of one minor version understand each other: messages as an earlier release wrote them, and a later one."""

from __future__ import annotations

import msgspec
import pytest

from certctl.core.errors import Malformed
from certctl.doors.body import decode_body
from certctl.wire.agent import CsrReport, Heartbeat, HeartbeatReply, StatusReport, VerifyReport, Work

# Recorded from the release before plans: no `plan`, no `served_now`, no `capabilities` in heartbeats.
OLDER_HEARTBEAT = (
    b'{"version":"0.1.0","hostname":"web-1","os":"linux","architecture":"amd64","ip_address":"","boot_id":"0198-b",'
    b'"protocol":1,"leases":[{"step_id":"step-1","fence":3}]}'
)
OLDER_STATUS = (
    b'{"status":"Completed","error":"","error_kind":"","step_id":"step-1","fence":3,"receipt":{"plan_id":"dep-1",'
    b'"fingerprint_sha256":"ab","served_before":"","served_after":"ab","skipped_as_identical":false,'
    b'"files_written":["/etc/x"],"actions_run":["nginx.reload"],"applied_at":"2026-01-01T00:00:00Z","duration_ms":12}}'
)
OLDER_WORK = (
    b'{"jobs":[{"id":"job-1","type":"Issuance","certificate_id":"cert-1","status":"AwaitingCSR","common_name":"a.example",'
    b'"sans":["dns:a.example"],"step_id":"step-1","step_kind":"prepare","fence":1,"lease_seconds":30.0}],"count":1}'
)
REFERENCE_HEARTBEAT = b'{"version":"1.0.0","hostname":"h","os":"linux","architecture":"amd64","ip_address":"10.0.0.1"}'
REFERENCE_CSR = b'{"csr_pem":"-----BEGIN CERTIFICATE REQUEST-----","certificate_id":"cert-1"}'
REFERENCE_STATUS = b'{"status":"Failed","error":"reload failed"}'
REFERENCE_VERIFY = b'{"target_id":"t","expected_fingerprint":"ab","actual_fingerprint":"ab","verified":true}'


def later(message: bytes) -> bytes:
    """The same message as a later release would write it: fields that nobody here knows (a receipt is kept as it is)."""

    def grow(value: object) -> object:
        if isinstance(value, dict):
            grown = {name: inner if name == "receipt" else grow(inner) for name, inner in value.items()}
            return grown | {"of_a_later_release": {"x": [1]}}
        if isinstance(value, list):
            return [grow(inner) for inner in value]
        return value

    return msgspec.json.encode(grow(msgspec.json.decode(message)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Heartbeat, OLDER_HEARTBEAT),
        (StatusReport, OLDER_STATUS),
        (Heartbeat, REFERENCE_HEARTBEAT),
        (CsrReport, REFERENCE_CSR),
        (StatusReport, REFERENCE_STATUS),
        (VerifyReport, REFERENCE_VERIFY),
    ],
)
def test_the_server_reads_older_and_later_agents(kind, message):
    read = decode_body(message, "application/json", kind, strict=False)
    assert decode_body(later(message), "application/json", kind, strict=False) == read


def test_what_an_older_agent_leaves_out_reads_as_not_said():
    beat = decode_body(OLDER_HEARTBEAT, "application/json", Heartbeat, strict=False)
    assert (beat.capabilities, beat.leases[0].fence) == ([], 3)
    said = decode_body(OLDER_STATUS, "application/json", StatusReport, strict=False)
    assert (said.plan, (said.receipt or {})["served_after"]) == (None, "ab")
    bare = decode_body(REFERENCE_STATUS, "application/json", StatusReport, strict=False)
    assert (bare.step_id, bare.fence, bare.error_kind) == ("", 0, "")


@pytest.mark.parametrize(
    ("kind", "message"), [(Work, OLDER_WORK), (HeartbeatReply, b'{"status":"heartbeat_recorded"}')]
)
def test_the_agent_reads_older_and_later_servers(kind, message):
    read = msgspec.json.decode(message, type=kind)
    assert msgspec.json.decode(later(message), type=kind) == read


def test_a_wrong_type_is_still_refused():
    with pytest.raises(Malformed):
        decode_body(b'{"status":"Completed","fence":"three"}', "application/json", StatusReport, strict=False)
