"""The agent protocol, version 1: JSON over HTTPS, the reference product's routes and fields plus lease and fence.

Every request carries `Certctl-Agent-Protocol: 1`. A work item is one leased step; its result is refused unless step
id and
fence are still the ones leased. Unknown fields are ignored both ways, so neighbours of one minor version work together.

    POST /api/v1/agents                                 enrol (bearer: one-time enrolment token)  -> 201 Enrolled
    POST /api/v1/agents/{id}/heartbeat                  Heartbeat -> 200 HeartbeatReply; 410 when retired
    GET  /api/v1/agents/{id}/work?wait=25&boot_id=...   long poll -> 200 Work
    POST /api/v1/agents/{id}/csr                        CsrReport -> 202 {"status": "csr_accepted" | "csr_signed"}
    GET  /api/v1/agents/{id}/certificates/{cert_id}     -> 200 {"certificate_pem"}
    POST /api/v1/agents/{id}/jobs/{job_id}/status       StatusReport -> 200 {"status": "updated"}
    POST /api/v1/jobs/{job_id}/verify                   VerifyReport -> 200 {job_id, verified, verified_at}

An agent of the reference product calls with an API key bound to its id and names no boot, step or fence: then the work
is a ReferenceWork, leased to that key, and what a result belongs to is resolved to one step or refused with 409.
A result answered 409 (stale fence) or another 4xx is final: the agent drops it; anything else it keeps and sends again.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Certctl-Agent-Protocol"


class Enrolment(Struct, kw_only=True):
    """What an agent says of itself when it enrols."""

    name: str
    hostname: str
    os: str = ""
    architecture: str = ""
    ip_address: str = ""
    version: str = ""
    protocol: int = PROTOCOL_VERSION
    capabilities: list[str] = []


class Enrolled(Struct, kw_only=True):
    """Who the agent now is; `credential` is shown this once and works for this agent id alone."""

    id: str
    name: str
    credential: str
    status: str = ""
    heartbeat_seconds: int = 30


class LeaseRef(Struct, frozen=True):
    """A step in hand: heartbeats extend its lease."""

    step_id: str
    fence: int


class Heartbeat(Struct, kw_only=True):
    """A sign of life. `leases` are the steps being worked on, `boot_id` names this run of the agent."""

    version: str = ""
    hostname: str = ""
    os: str = ""
    architecture: str = ""
    ip_address: str = ""
    boot_id: str = ""
    protocol: int = PROTOCOL_VERSION
    capabilities: list[str] = []
    leases: list[LeaseRef] = []


class HeartbeatReply(Struct, kw_only=True):
    """`lost` are leases that have passed on: stop working on those steps.

    `reconnect_seconds` is how long this server needs to take all its agents on again: an agent that loses its
    connection, and has nothing in hand, comes back at a moment of its own within that time.
    """

    status: str = "heartbeat_recorded"
    lost: list[LeaseRef] = []
    server_time: str = ""
    reconnect_seconds: float = 0.0


class HostAnswer(Struct, frozen=True, kw_only=True):
    """One answer to a challenge of `type` (http-01, tls-alpn-01) for `name`: in `webroot` if named, else on `port`.

    It is served for `seconds` at most.
    """

    type: str
    name: str
    token: str
    key_authorization: str
    webroot: str = ""
    port: int = 0
    seconds: float = 3600


class WorkItem(Struct, kw_only=True):
    """One leased step. `id` is the job; `step_kind` is prepare, prove, deploy, verify or plan.

    prepare: make (or find again) the key staged under `id`, answer with a CsrReport for `common_name` and `sans`.
    prove:   serve exactly `answers` for this job, nothing else of it; answer with a StatusReport with `proved`.
    deploy:  put `certificate_pem` + `chain_pem` with the key staged under `key_job_id` on the target, as `plan_id`.
    verify:  look at what the target serves; answer with a VerifyReport against `fingerprint_sha256`.
    plan:    a dry run of deploy: say what would be done, touch nothing; answer with a StatusReport with `plan`.
    """

    id: str
    type: str
    certificate_id: str
    status: str = ""
    common_name: str = ""
    sans: list[str] = []
    target_id: str = ""
    target_type: str = ""
    target_config: dict[str, Any] = {}
    step_id: str = ""
    step_kind: str = ""
    fence: int = 0
    lease_seconds: float = 30
    attempt: int = 1
    key_algorithm: str = "ECDSA-P256"
    must_staple: bool = False
    version_id: str = ""
    key_job_id: str = ""
    plan_id: str = ""
    certificate_pem: str = ""
    chain_pem: str = ""
    fingerprint_sha256: str = ""
    answers: list[HostAnswer] = []
    # W3C Trace Context of the job: results are sent with a `traceparent` header beneath it
    traceparent: str = ""


class ReferenceWorkItem(Struct, kw_only=True, omit_defaults=True):
    """One job for an agent of the reference product: its fields exactly; names on AwaitingCSR items alone."""

    id: str
    type: str
    certificate_id: str
    status: str
    common_name: str = ""
    sans: list[str] = []
    target_id: str = ""
    target_type: str = ""
    target_config: dict[str, Any] = {}


class ReferenceWork(Struct, kw_only=True):
    """The answer to a poll of an agent of the reference product."""

    jobs: list[ReferenceWorkItem] = []
    count: int = 0


class Work(Struct, kw_only=True):
    """The answer to a poll: the steps now leased to this run of the agent."""

    jobs: list[WorkItem] = []
    count: int = 0
    server_time: str = ""


class CsrReport(Struct, kw_only=True):
    """A CSR for one prepare step. Without step id (reference agents) the server resolves the one open job."""

    csr_pem: str
    certificate_id: str = ""
    job_id: str = ""
    step_id: str = ""
    fence: int = 0


class PlannedFileReport(Struct, kw_only=True):
    """One file that a deployment would write, and whether that would change it; never its bytes. `mode` is a number."""

    role: str = ""
    path: str = ""
    mode: int = 0
    owner: str = ""
    group: str = ""
    sha256: str = ""
    changes: bool = False


class PlanReport(Struct, kw_only=True):
    """What a deployment would do, as the agent on the host says. `served_now` is what the target was seen to serve."""

    files: list[PlannedFileReport] = []
    actions: list[str] = []
    endpoint: str = ""
    sni: str = ""
    fingerprint_sha256: str = ""
    served_now: str = ""
    summary: list[str] = []


class StatusReport(Struct, kw_only=True):
    """How a deploy (or a failed prepare) went. `status` is Running, Completed or Failed.

    `error_kind` is the code of the ConnectorError family (temporary, rejected, misconfigured, unsupported, ...).
    """

    status: str
    error: str = ""
    error_kind: str = ""
    step_id: str = ""
    fence: int = 0
    receipt: dict[str, Any] | None = None
    plan: PlanReport | None = None
    # of a prove step: the tokens of the answers that are served now
    proved: list[str] | None = None


class VerifyReport(Struct, kw_only=True):
    """What the target was seen to serve. `actual_fingerprint` is empty when nothing answered."""

    target_id: str
    expected_fingerprint: str
    actual_fingerprint: str = ""
    verified: bool = False
    error: str = ""
    error_kind: str = ""
    step_id: str = ""
    fence: int = 0
