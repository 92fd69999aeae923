"""publish: CRLs and OCSP answers, always spoken from the facts of revocation as they are committed.

A CRL is made anew when a revocation is not in it yet or its next update nears; its number grows by one in the database.
OCSP is signed by a delegated responder, made anew before it ends. RFC 5280 5, RFC 6960.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from certctl.authority.crl import RevokedEntry, make_crl
from certctl.authority.hierarchy import make_ocsp_responder
from certctl.authority.ocsp import Responder, SerialStatus, Statuses, answer
from certctl.authority.signer import IssuingCA, SealedKey
from certctl.core.catalogue import CaCertificate
from certctl.core.errors import NotFound, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Step
from certctl.core.status import JobStatus, StepStatus
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.fingerprints import serial_hex, serial_int
from certctl.policy.revocation import parse_reason
from certctl.store import authority, jobs
from certctl.store.authority import CrlRecord, ResponderRecord
from certctl.telemetry import points

# each lost race is another process's CRL, and one that was begun after we asked tells what we need
_ATTEMPTS = 20


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Bring the CRLs of every CA generation up to date, then end the jobs that asked for it."""
    for ca in await signing_cas(ctx):
        await current_crl(ctx, ca.id)
    async with ctx.database.begin("publish") as tx:
        for step in claimed:
            await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, ctx.now())
            await jobs.move_job(tx, ctx.scope, step.job_id, JobStatus.COMPLETED, ctx.now(), last_error="")


async def tick(ctx: Context) -> int:
    """Make anew every CRL and responder whose end nears; returns how many CA generations were looked at."""
    cas = await signing_cas(ctx)
    for ca in cas:
        await current_crl(ctx, ca.id)
        await _responder(ctx, ca)
    return len(cas)


async def signing_cas(ctx: Context) -> list[CaCertificate]:
    """Every CA generation of our own that has signed and is not retired; roots too, which have signed the others."""
    async with ctx.database.read() as tx:
        return await authority.signing_cas(tx, ctx.scope, roots=True)


async def find_ca(ctx: Context, ca_or_issuer_id: str) -> CaCertificate | None:
    """A CA generation by its own id, or the current one of an issuer: the alias that older clients use."""
    async with ctx.database.read() as tx:
        found = await authority.ca_certificate(tx, ctx.scope, ca_or_issuer_id)
        if found is not None:
            return found
        generations = await authority.ca_certificates_of(tx, ctx.scope, ca_or_issuer_id)
    return next((ca for ca in generations if ca.issues_leaves), None)


async def current_crl(ctx: Context, ca_certificate_id: str) -> CrlRecord:
    """A CRL that tells every revocation committed before it was asked for, made now if the last one does not.

    What is revoked meanwhile may be in the next one: whoever asks while others revoke must not race them for ever.
    """
    async with ctx.database.read() as tx:
        count = await authority.revoked_count(tx, ctx.scope, ca_certificate_id)
    for _ in range(_ATTEMPTS):
        async with ctx.database.read() as tx:
            latest = await authority.latest_crl(tx, ctx.scope, ca_certificate_id)
        soon = ctx.now() + ctx.patience.crl_validity / 4
        # revocations are never taken back, so a CRL that counts as many tells all of them
        if latest is not None and latest.revoked_count >= count and latest.next_update > soon:
            return latest
        made = await _make_crl(ctx, ca_certificate_id, latest)
        if made is not None:
            return made
    raise Temporary("other processes keep publishing this CRL; ask again")


async def _make_crl(ctx: Context, ca_certificate_id: str, latest: CrlRecord | None) -> CrlRecord | None:
    """Sign and store the next number; None when another process took it first.

    What is revoked stands on one CRL at least that was made after its end, as CRLs are made anew before they end
    (RFC 5280 3.3).
    """
    now = ctx.now().replace(microsecond=0)
    async with ctx.database.read() as tx:
        # counted first: what is revoked between the two statements is told, and only not counted yet
        count = await authority.revoked_count(tx, ctx.scope, ca_certificate_id)
        ended_after = now - ctx.patience.crl_validity
        revoked = await authority.revoked_serials(tx, ctx.scope, ca_certificate_id, ended_after)
    ca = await issuing_ca(ctx, ca_certificate_id)
    entries = [RevokedEntry(serial_int(row.serial_number), row.revoked_at, parse_reason(row.reason)) for row in revoked]
    number = latest.number + 1 if latest else 1
    next_update = now + ctx.patience.crl_validity
    points.reach("publish.crl.signing")
    der = await make_crl(ca, entries, number, now, next_update, ctx.signer)
    points.reach("publish.crl.signed")
    record = CrlRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("crl"),
        ca_certificate_id=ca_certificate_id,
        number=number,
        this_update=now,
        next_update=next_update,
        revoked_count=count,
        crl_der=der,
        created_at=ctx.now(),
    )
    async with ctx.database.begin("publish.crl") as tx:
        if not await authority.insert_crl(tx, ctx.scope, record):
            return None
        # the one before may be being read
        await authority.forget_crls(tx, ctx.scope, ca_certificate_id, number - 1)
        details = {"number": number, "revoked": len(entries)}
        event = Event(
            type=EventType.CRL_PUBLISHED,
            subject_type="ca_certificate",
            subject_id=ca_certificate_id,
            actor=ctx.actor,
            details=details,
        )
        await append(tx, ctx.scope, ctx.now(), event)
    return record


class Speaker(Struct, frozen=True):
    """Who answers for one CA generation of an issuer, until `ends_at`."""

    issuer_id: str
    responder: Responder
    ends_at: datetime


async def speaker(ctx: Context, ca: CaCertificate) -> Speaker:
    """The OCSP responder of a CA generation, made now when the last one nears its end."""
    record = await _responder(ctx, ca)
    responder = Responder(
        ca=await issuing_ca(ctx, ca.id),
        responder_certificate_der=record.certificate_der,
        key_ref=record.key_ref,
        key_algorithm=KeyAlgorithm(record.key_algorithm),
    )
    return Speaker(ca.issuer_id, responder, record.not_after)


async def ocsp(ctx: Context, said_by: Speaker, request_der: bytes, known: Statuses) -> bytes:
    """The signed answer to one OCSP request, of what `known` tells: `statuses`, or what is no older in the end."""
    points.reach("publish.ocsp.signing")
    answer_der = await answer(request_der, said_by.responder, known, ctx.signer, ctx.now(), ctx.patience.ocsp_validity)
    points.reach("publish.ocsp.signed")
    return answer_der


async def statuses(ctx: Context, said_by: Speaker, serials: list[int]) -> dict[int, SerialStatus]:
    """What is known of serial numbers of one CA generation, as committed this moment."""
    issuer_id, ca_id = said_by.issuer_id, said_by.responder.ca.ca_certificate_id
    async with ctx.database.read() as tx:
        known = await authority.serial_facts(tx, ctx.scope, issuer_id, ca_id, [serial_hex(one) for one in serials])
    return {
        serial_int(row.serial_number): SerialStatus.revoked(row.revoked_at, parse_reason(row.reason or ""))
        if row.revoked_at is not None
        else SerialStatus.good()
        for row in known
    }


async def _responder(ctx: Context, ca: CaCertificate) -> ResponderRecord:
    now = ctx.now()
    async with ctx.database.read() as tx:
        latest = await authority.latest_responder(tx, ctx.scope, ca.id)
    if latest is not None and latest.not_after - ctx.patience.responder_grace > now:
        return latest
    return await _make_responder(ctx, ca, now)


async def _make_responder(ctx: Context, ca: CaCertificate, now: datetime) -> ResponderRecord:
    issuing = await issuing_ca(ctx, ca.id)
    key: SealedKey = await ctx.create_key(KeyAlgorithm.ECDSA_P256)
    until = now + ctx.patience.responder_validity
    points.reach("publish.responder.signing")
    certificate_der = await make_ocsp_responder(issuing, key, ctx.signer, now, ctx.patience.responder_validity)
    points.reach("publish.responder.signed")
    record = ResponderRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("ocsp"),
        ca_certificate_id=ca.id,
        key_ref=key.key_ref,
        key_algorithm=str(key.algorithm),
        certificate_der=certificate_der,
        not_before=now,
        not_after=min(until, ca.not_after),
        created_at=now,
    )
    async with ctx.database.begin("publish.responder") as tx:
        await authority.insert_key(tx, ctx.scope, key, now)
        await authority.insert_responder(tx, ctx.scope, record)
    return record


async def issuing_ca(ctx: Context, ca_certificate_id: str) -> IssuingCA:
    """A CA generation as the authority works with it: certificate, chain above it, key name."""
    async with ctx.database.read() as tx:
        return await authority.issuing_ca(tx, ctx.scope, ca_certificate_id)


def require_ca(found: CaCertificate | None, name: str) -> CaCertificate:
    """The CA, or NotFound with its name."""
    if found is None:
        raise NotFound(f"no CA {name}")
    return found
