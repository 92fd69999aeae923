"""The rows and events of one issuance and its deployments, as the stages of the lifecycle would have left them. Pure.

Status and time of each row are those of its end: nothing is written twice. Sights and receipts say that they are
samples.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.actor import SYSTEM, Actor, ActorType
from certctl.core.certificate import CLIENT_HOLDER, RequestBody
from certctl.core.events import Event, EventType
from certctl.core.status import DeploymentStatus, JobStatus, JobType, OrderStatus, StepKind, StepStatus, VersionStatus
from certctl.pki.fingerprints import sha256_hex
from certctl.sample import MARK
from certctl.sample.plan import Cycle, Fate, PlacePlan, Waiting, sample_id
from certctl.store import schema

ISSUER = "iss-local"
CERTCTL = Actor(id=SYSTEM.id, type=SYSTEM.type, request_id=MARK)
_PLACES_TAKE = (1.2, 3.7)

Rows = dict[str, list[dict[str, Any]]]
Dated = tuple[datetime, Event]


class Signed(Struct, frozen=True, kw_only=True):
    """What the CA gave."""

    order_id: str
    ca_certificate_id: str
    serial_number: str
    tbs_der: bytes
    leaf_der: bytes
    chain_pem: str
    csr_der: bytes
    spki_sha256: str
    key_algorithm: str
    key_size: int
    not_before: datetime
    not_after: datetime

    @property
    def fingerprint(self) -> str:
        """Of the leaf, hex."""
        return sha256_hex(self.leaf_der)


class Batch:
    """Rows by table and events, gathered for one transaction."""

    def __init__(self) -> None:
        self.rows: Rows = defaultdict(list)
        self.events: list[Dated] = []

    def add(self, table: str, **row: Any) -> None:
        """One row more."""
        self.rows[table].append(row)

    def tell(self, at: datetime, kind: EventType, subject_id: str, actor: Actor = CERTCTL, **details: Any) -> None:
        """One event of a certificate more."""
        event = Event(type=kind, subject_type="certificate", subject_id=subject_id, actor=actor, details=details)
        self.events.append((at, event))


def why_failed(target_type: str) -> str:
    """What a host says whose server refuses the new pair."""
    return f"{target_type.lower()}.validate ended with 1: the key file cannot be read; the old pair was put back"


def agent(holder_id: str) -> Actor:
    """Who holds the key, as an actor."""
    if holder_id == CLIENT_HOLDER:
        return Actor(id=MARK, type=ActorType.API_KEY, request_id=MARK)
    return Actor(id=holder_id, type=ActorType.AGENT, request_id=MARK)


def issued(batch: Batch, cycle: Cycle, body: RequestBody, signed: Signed) -> None:
    """An issuance or a renewal from its request to its deployments."""
    life, lot = cycle.life, _lot(cycle.version_id)
    first = not cycle.replaces_id
    asked = cycle.begins
    approved = asked + timedelta(milliseconds=120)
    prepared = approved + timedelta(seconds=0.8 + 9 * next(lot))
    ordered = prepared + timedelta(milliseconds=40)
    recorded = ordered + timedelta(milliseconds=90)
    job_type = JobType.ISSUANCE if first else JobType.RENEWAL
    if first and cycle.holder_id == life.holders[0]:
        batch.tell(asked, EventType.CERTIFICATE_CREATED, life.id, agent(CLIENT_HOLDER), common_name=life.name)
    began = EventType.ISSUANCE_REQUESTED if first else EventType.RENEWAL_JOB_CREATED
    reason = "" if first else "window_has_begun"
    batch.tell(asked, began, life.id, CERTCTL, job_id=cycle.job_id, holder_id=cycle.holder_id, reason=reason)
    batch.tell(approved, EventType.REQUEST_APPROVED, life.id, job_id=cycle.job_id, decision_hash=body.decision_hash)
    by = agent(cycle.holder_id)
    batch.tell(prepared, EventType.CSR_SUBMITTED, life.id, by, job_id=cycle.job_id, holder_id=cycle.holder_id,
               spki_sha256=signed.spki_sha256)  # fmt: skip
    batch.tell(ordered, EventType.ORDER_INTENDED, life.id, job_id=cycle.job_id, serial_number=signed.serial_number)
    told: dict[str, Any] = {
        "job_id": cycle.job_id, "version_id": cycle.version_id, "serial_number": signed.serial_number,
        "fingerprint_sha256": signed.fingerprint, "not_after": signed.not_after.isoformat(),
    }  # fmt: skip
    batch.tell(recorded, EventType.CERTIFICATE_ISSUED, life.id, **told)
    if not first:
        batch.tell(recorded, EventType.RENEWAL_JOB_COMPLETED, life.id, **told)
    _version(batch, cycle, signed, recorded)
    _order(batch, cycle, signed, ordered)
    job(batch, cycle.job_id, job_type, life.id, asked, JobStatus.COMPLETED, recorded,
        holder_id=cycle.holder_id, version_id=cycle.version_id, body=msgspec.to_builtins(body),
        key=f"sample/{cycle.version_id}")  # fmt: skip
    moments = (asked, approved, prepared, ordered, recorded)
    kinds = (StepKind.APPROVE, StepKind.PREPARE, StepKind.ISSUE, StepKind.RECORD)
    for at, kind in enumerate(kinds):
        holder = "" if kind != StepKind.PREPARE or cycle.holder_id == CLIENT_HOLDER else cycle.holder_id
        step(batch, cycle.job_id, kind, moments[at], moments[at + 1], agent_id=holder)
    places = [place for place in life.places if place.host.id == cycle.holder_id]
    if places:
        jobs = [_deployed(batch, cycle, place, signed, recorded, lot) for place in places]
        batch.tell(recorded, EventType.DEPLOYMENT_CREATED, life.id, version_id=cycle.version_id, jobs=jobs)


def _lot(text: str) -> Iterator[float]:
    """Numbers from 0 to 1 out of a text."""
    drawn = hashlib.sha256(text.encode()).digest()
    for byte in drawn * 4:
        yield byte / 256


def _version(batch: Batch, cycle: Cycle, signed: Signed, recorded: datetime) -> None:
    life = cycle.life
    status = VersionStatus.CURRENT if cycle.is_last else VersionStatus.SUPERSEDED
    batch.add(
        schema.versions.name,
        id=cycle.version_id, certificate_id=life.id, holder_id=cycle.holder_id, job_id=cycle.job_id, issuer_id=ISSUER,
        ca_certificate_id=signed.ca_certificate_id, replaces_id=cycle.replaces_id, status=str(status),
        serial_number=signed.serial_number, not_before=signed.not_before, not_after=signed.not_after,
        fingerprint_sha256=signed.fingerprint, spki_sha256=signed.spki_sha256, key_algorithm=signed.key_algorithm,
        key_size=signed.key_size, leaf_der=signed.leaf_der, chain_pem=signed.chain_pem, csr_der=signed.csr_der,
        created_at=recorded,
    )  # fmt: skip


def _order(batch: Batch, cycle: Cycle, signed: Signed, ordered: datetime) -> None:
    batch.add(
        schema.orders.name,
        id=signed.order_id, job_id=cycle.job_id, issuer_id=ISSUER, ca_certificate_id=signed.ca_certificate_id,
        serial_number=signed.serial_number, tbs_der=signed.tbs_der, not_before=signed.not_before,
        not_after=signed.not_after, csr_der=signed.csr_der, reference="", status=str(OrderStatus.RECORDED),
        leaf_der=signed.leaf_der, chain_pem=signed.chain_pem, created_at=ordered,
    )  # fmt: skip


def _deployed(
    batch: Batch, cycle: Cycle, place: PlacePlan, signed: Signed, begins: datetime, lot: Iterator[float]
) -> str:
    """One place; returns the id of its job."""
    life = cycle.life
    job_id = sample_id("job", begins, "deploy", cycle.version_id, place.id)
    least, most = _PLACES_TAKE
    applied = begins + timedelta(seconds=least + (most - least) * next(lot))
    seen_at = applied + timedelta(seconds=0.3 + next(lot) / 2)
    by, seen, error = agent(cycle.holder_id), signed.fingerprint, ""
    status = DeploymentStatus.VERIFIED if cycle.is_last else DeploymentStatus.SUPERSEDED
    told: dict[str, Any] = {"job_id": job_id, "target_id": place.id, "version_id": cycle.version_id}
    if cycle.is_last and life.fate is Fate.UNDEPLOYED:
        status, error, seen = DeploymentStatus.FAILED, why_failed(place.host.target_type), ""
        batch.tell(applied, EventType.DEPLOYMENT_FAILED, life.id, by, **told, error=error, error_kind="rejected")
    elif cycle.is_last and life.fate is Fate.DRIFTED:
        seen = hashlib.sha256(f"another/{cycle.version_id}".encode()).hexdigest()
        status, error = DeploymentStatus.DRIFTED, f"the target serves {seen}, not {signed.fingerprint}"
        batch.tell(applied, EventType.DEPLOYMENT_APPLIED, life.id, by, **told)
        batch.tell(seen_at, EventType.DEPLOYMENT_DRIFTED, life.id, by, **told, error=error)
    else:
        batch.tell(applied, EventType.DEPLOYMENT_APPLIED, life.id, by, **told)
        batch.tell(seen_at, EventType.DEPLOYMENT_VERIFIED, life.id, by, **told, fingerprint_sha256=seen)
    good = not error
    verification = {
        "verification_status": "success", "verified_at": seen_at, "verification_fingerprint": seen
    } if good else {"verification_status": "failed" if seen else "", "verification_error": error if seen else "",
                    "verification_fingerprint": seen}  # fmt: skip
    ended = seen_at if seen else applied
    job(batch, job_id, JobType.DEPLOYMENT, life.id, begins, JobStatus.COMPLETED if good else JobStatus.FAILED, ended,
        holder_id=cycle.holder_id, version_id=cycle.version_id, target_id=place.id, parent_id=cycle.job_id,
        body={"version_job_id": cycle.job_id}, key=f"deploy/{cycle.version_id}/{place.id}/{cycle.job_id}",
        last_error=error, error_kind="" if good else "rejected", **verification)  # fmt: skip
    step(batch, job_id, StepKind.DEPLOY, begins, applied, agent_id=place.host.id, error="" if seen else error)
    if seen:
        step(batch, job_id, StepKind.VERIFY, applied, seen_at, agent_id=place.host.id, error=error)
    deployment_id = sample_id("dep", begins, "deployment", cycle.version_id, place.id)
    receipt = {"plan_id": deployment_id, "served_after": signed.fingerprint, "sample": True} if seen else None
    batch.add(
        schema.deployments.name,
        id=deployment_id, certificate_id=life.id, version_id=cycle.version_id, target_id=place.id,
        agent_id=place.host.id, job_id=job_id, status=str(status), error=error, receipt=receipt, served_before="",
        observed_fingerprint=seen, applied_at=applied if seen else None,
        verified_at=seen_at if good else None, created_at=begins, updated_at=ended,
    )  # fmt: skip
    if seen:
        batch.add(
            schema.observations.name,
            id=sample_id("obs", seen_at, "sight", cycle.version_id, place.id), deployment_id=deployment_id,
            target_id=place.id, expected_fingerprint=signed.fingerprint, observed_fingerprint=seen, error="",
            observed_by=MARK, observed_at=seen_at,
        )  # fmt: skip
    return job_id


def waits(batch: Batch, one: Waiting, body: RequestBody) -> None:
    """A renewal that was approved and waits for a host that is silent."""
    approved = one.begins + timedelta(milliseconds=120)
    batch.tell(one.begins, EventType.RENEWAL_JOB_CREATED, one.life.id, job_id=one.job_id, holder_id=one.holder_id,
               reason="window_has_begun")  # fmt: skip
    batch.tell(approved, EventType.REQUEST_APPROVED, one.life.id, job_id=one.job_id, decision_hash=body.decision_hash)
    job(batch, one.job_id, JobType.RENEWAL, one.life.id, one.begins, JobStatus.AWAITING_CSR, None,
        holder_id=one.holder_id, body=msgspec.to_builtins(body),
        key=f"renew/{one.life.id}/{one.holder_id}/{one.replaces_id}/0",
        live_key=f"issue/{one.life.id}/{one.holder_id}")  # fmt: skip
    step(batch, one.job_id, StepKind.APPROVE, one.begins, approved)
    step(batch, one.job_id, StepKind.PREPARE, approved, None, agent_id=one.holder_id)


def job(
    batch: Batch, job_id: str, kind: JobType, certificate_id: str, begins: datetime, status: JobStatus,
    ended: datetime | None, *, key: str, live_key: str | None = None, holder_id: str = "", **more: Any,
) -> None:  # fmt: skip
    """A job's row."""
    blank: dict[str, Any] = {
        "version_id": "", "target_id": "", "parent_id": "", "last_error": "", "error_kind": "", "body": {},
        "verification_status": "", "verified_at": None, "verification_error": "", "verification_fingerprint": "",
    }  # fmt: skip
    batch.add(
        schema.jobs.name,
        **blank | {
            "id": job_id, "type": str(kind), "certificate_id": certificate_id, "holder_id": holder_id,
            "agent_id": "" if holder_id == CLIENT_HOLDER else holder_id, "status": str(status), "attempts": 1,
            "max_attempts": 8, "idempotency_key": key, "live_key": live_key, "requested_by": SYSTEM.id,
            "scheduled_at": begins, "started_at": begins, "completed_at": ended, "traceparent": "",
            "created_at": begins,
        } | more,
    )  # fmt: skip


def step(
    batch: Batch, job_id: str, kind: StepKind, begins: datetime, ended: datetime | None, *, agent_id: str = "",
    error: str = "",
) -> None:  # fmt: skip
    """A step's row: done, failed, or ready for its host."""
    status = StepStatus.READY if ended is None else StepStatus.FAILED if error else StepStatus.DONE
    batch.add(
        schema.steps.name,
        id=sample_id("step", begins, "step", job_id, kind), job_id=job_id, kind=str(kind), status=str(status),
        agent_id=agent_id, run_at=begins, attempts=0 if ended is None else 1, lease_owner="", lease_until=None,
        fence=0 if ended is None else 1, error_kind="rejected" if error else "", error=error, created_at=begins,
        ended_at=ended,
    )  # fmt: skip
