"""publish: CRLs and OCSP answers, always spoken from the facts of revocation as they are committed.

A revocation is encoded once, for the CRL that tells it first (ADR 36). A CRL joins what is encoded; it is made anew
when a revocation is not in it yet, the longer it is the less often, or its next update nears. Its number grows.
OCSP is signed by a delegated responder, made anew before it ends. RFC 5280 5, RFC 6960.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from certctl.authority.crl import CrlForm, CrlTimes, sign_crl
from certctl.authority.hierarchy import make_ocsp_responder
from certctl.authority.ocsp import Responder, SerialStatus, Statuses, answer
from certctl.authority.signer import SealedKey
from certctl.core.catalogue import CaCertificate
from certctl.core.errors import CertctlError, NotFound, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Step
from certctl.core.status import JobStatus, StepStatus
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.lifecycle.crl_parts import encode_revoked, issuing_ca, parts_of
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.fingerprints import serial_hex, serial_int
from certctl.policy.revocation import MADE_AT_ONCE, crl_pause, parse_reason
from certctl.store import authority, crl, jobs
from certctl.store.authority import CrlRecord, ResponderRecord
from certctl.store.crl import CrlHead
from certctl.telemetry import points

# each lost race is another process's CRL, and one that was begun after we asked tells what we need
_ATTEMPTS = 20
# a chunk that no CRL tells any more is kept until no client can have a CRL that does
_FORGOTTEN_AFTER = 3


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Bring the CRLs of every CA generation up to date, as far as they may be made now, then end the jobs that asked
    for it.
    """
    await list_revoked(ctx)
    async with ctx.database.begin("publish") as tx:
        for step in claimed:
            await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, ctx.now())
            await jobs.move_job(tx, ctx.scope, step.job_id, JobStatus.COMPLETED, ctx.now(), last_error="")


async def list_revoked(ctx: Context) -> int:
    """Encode what was revoked since the last look, and make the CRLs anew that tell less and stand long enough.

    Returns how many were made. What is committed and not told yet is found by the database, whoever died before.
    """
    async with ctx.database.read() as tx:
        behind = await crl.behind(tx, ctx.scope)
    made, failed = 0, None
    for ca_id in behind:
        try:
            made += await _list_revoked_by(ctx, ca_id)
        except CertctlError as error:  # a key that does not open keeps no other CA waiting
            failed = failed or error
    if failed is not None:
        raise failed
    return made


async def _list_revoked_by(ctx: Context, ca_certificate_id: str) -> bool:
    async with ctx.database.read() as tx:
        found = await crl.state(tx, ctx.scope, ca_certificate_id)
    if found.head is not None:
        stands_until = found.head.created_at + crl_pause(found.listed_total, ctx.patience.crl_pause)
        if ctx.now() < stands_until:
            await encode_revoked(ctx, ca_certificate_id, await parts_of(ctx, ca_certificate_id))
            return False
    return await make_next_crl(ctx, ca_certificate_id) is not None


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
    for _ in range(_ATTEMPTS):
        async with ctx.database.read() as tx:
            found = await crl.state(tx, ctx.scope, ca_certificate_id)
            latest = None
            if found.head is not None and not found.is_behind and not _ends_soon(ctx, found.head):
                latest = await authority.latest_crl(tx, ctx.scope, ca_certificate_id)
        latest = latest or await make_next_crl(ctx, ca_certificate_id)
        if latest is not None:
            return latest
    raise Temporary("other processes keep publishing this CRL; ask again")


async def crl_to_give(ctx: Context, ca_certificate_id: str) -> CrlHead | None:
    """The CRL that a relying party is given: a short one tells all that was revoked until now, a long one what had been
    when it was made (`list_revoked` makes the next). None: it has to be made first, by `current_crl`.
    """
    async with ctx.database.read() as tx:
        found = await crl.state(tx, ctx.scope, ca_certificate_id)
    if found.head is None or _ends_soon(ctx, found.head):
        return None
    return None if found.is_behind and found.listed_total <= MADE_AT_ONCE else found.head


def _ends_soon(ctx: Context, head: CrlHead) -> bool:
    return head.next_update <= ctx.now() + ctx.patience.crl_validity / 4


async def make_next_crl(ctx: Context, ca_certificate_id: str) -> CrlRecord | None:
    """Sign and store a next number, from all that is encoded; None when another process took it first.

    What is revoked stands on one CRL at least that was made after its end, as CRLs are made anew before they end
    (RFC 5280 3.3).
    """
    begun = time.monotonic()
    parts = await parts_of(ctx, ca_certificate_id)
    taken = await encode_revoked(ctx, ca_certificate_id, parts)
    now = ctx.now().replace(microsecond=0)
    validity = ctx.patience.crl_validity
    async with ctx.database.read() as tx:
        chunks = [chunk async for chunk in crl.chunks(tx, ctx.scope, ca_certificate_id, now - validity)]
    ca = await issuing_ca(ctx, ca_certificate_id)
    size, entries_der = sum(chunk.size for chunk in chunks), [chunk.entries_der for chunk in chunks]
    chunks.clear()
    points.reach("publish.crl.signing")
    form = CrlForm(delta_url=ctx.addresses.delta_crl(ca_certificate_id) if parts.deltas else "")
    der = await sign_crl(ca, entries_der, size, CrlTimes(taken.number, now, now + validity), ctx.signer, form)
    points.reach("publish.crl.signed")
    record = CrlRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("crl"),
        ca_certificate_id=ca_certificate_id,
        number=taken.number,
        this_update=now,
        next_update=now + validity,
        revoked_count=taken.listed_total,
        crl_der=der,
        created_at=ctx.now(),
    )
    async with ctx.database.begin("publish.crl") as tx:
        if not await authority.insert_crl(tx, ctx.scope, record):
            return None
        # the one before may be being read
        await authority.forget_crls(tx, ctx.scope, ca_certificate_id, taken.number)
        await crl.forget_chunks(tx, ctx.scope, ca_certificate_id, now - _FORGOTTEN_AFTER * validity)
        event = Event(
            type=EventType.CRL_PUBLISHED,
            subject_type="ca_certificate",
            subject_id=ca_certificate_id,
            actor=ctx.actor,
            details={
                "number": taken.number,
                "revoked": size,
                "milliseconds": round((time.monotonic() - begun) * 1000),
            },
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


def require_ca(found: CaCertificate | None, name: str) -> CaCertificate:
    """The CA, or NotFound with its name."""
    if found is None:
        raise NotFound(f"no CA {name}")
    return found
