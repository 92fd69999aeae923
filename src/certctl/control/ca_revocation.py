"""Revoking an intermediate: a fact of the CA above it, which its CRL and OCSP tell at once (RFC 5280 3.3, 5.3.1).

What stands below it issues no more from that commit on, while CRL and OCSP of its own go on for who still asks. A root
is not revoked by anybody: it is taken out of trust stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from certctl.control.hierarchy import find
from certctl.control.usage import Sees, told
from certctl.core.actor import Actor
from certctl.core.catalogue import CaCertificate
from certctl.core.certificate import RevocationRecord
from certctl.core.errors import Blocked, Conflict
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.ledger import append, notify
from certctl.lifecycle import publish
from certctl.lifecycle.context import Context
from certctl.policy.revocation import RevocationReason, parse_reason
from certctl.store import authority
from certctl.store.tx import Tx


async def revoke(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    ca_certificate_id: str,
    *,
    reason: str = "",
    note: str = "",
    confirm: bool = False,
    sees: Sees | None = None,
) -> CaCertificate:
    """Revoke an intermediate; again adds nothing. Its parent's CRL tells it when this returns.

    Conflict for a root, and for one without which nothing would issue any more; Blocked with counts while something
    needs it and it is not confirmed; Malformed for a reason that is none.
    """
    parsed = parse_reason(reason or RevocationReason.CA_COMPROMISE)
    async with ctx.database.begin("ca.revoke") as tx:
        ca = await find(tx, scope, ca_certificate_id)
        if ca.kind == "root":
            raise Conflict("a root is not revoked: nobody stands above it; take it out of every trust store")
        below = at_or_below(ca, await authority.ca_certificates_of(tx, ctx.scope, ca.issuer_id))
        if ca.id not in await authority.ca_revocations(tx, ctx.scope, ca.issuer_id):
            await _check_it_may_go(tx, ctx, ca, below, confirm=confirm, visible=sees("cert.read") if sees else scope)
            await _write(tx, ctx, actor, ca, str(parsed), note)
            for one in below:
                await authority.move_ca(tx, ctx.scope, one.id, "active", "retiring", ctx.now())
    await publish.current_crl(ctx, ca.parent_id)
    async with ctx.database.read() as tx:
        return await find(tx, scope, ca_certificate_id)


def at_or_below(ca: CaCertificate, known: Sequence[CaCertificate]) -> list[CaCertificate]:
    """It, and every CA of those known whose chain goes through it."""
    by_id = {one.id: one for one in known}

    def passes_through(one: CaCertificate | None) -> bool:
        while one is not None:
            if one.id == ca.id:
                return True
            one = by_id.get(one.parent_id)
        return False

    return [one for one in known if passes_through(one)]


async def _check_it_may_go(
    tx: Tx, ctx: Context, ca: CaCertificate, below: Sequence[CaCertificate], *, confirm: bool, visible: Scope
) -> None:
    gone = {one.id for one in below}
    known = await authority.ca_certificates_of(tx, ctx.scope, ca.issuer_id)
    issued = any(one.issues_leaves for one in below)
    if issued and not any(one.issues_leaves and one.id not in gone for one in known):
        raise Conflict(f"without CA {ca.id} nothing would issue any more; make its successor first")
    if confirm:
        return
    needed: dict[str, int] = {}
    seen: dict[str, int] = {}
    for one in below:
        for counts, reach in ((needed, ctx.scope), (seen, visible)):
            found: dict[str, int] = msgspec.to_builtins(await authority.ca_dependencies(tx, reach, one.id, ctx.now()))
            for name, count in found.items():
                counts[name] = counts.get(name, 0) + count
    if any(needed.values()):
        message = f"CA {ca.id} is still needed by {told(seen, needed)}: with `confirm` nobody will trust them any more"
        raise Blocked(message, counts=seen)


async def _write(tx: Tx, ctx: Context, actor: Actor, ca: CaCertificate, reason: str, note: str) -> None:
    now = ctx.now()
    fact = RevocationRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("rev"),
        certificate_id="",
        version_id="",
        issuer_id=ca.issuer_id,
        ca_certificate_id=ca.parent_id,
        serial_number=ca.serial_number,
        reason=reason,
        revoked_by=actor.id,
        revoked_at=now,
        issuer_notified=True,  # the one above it is our own
    )
    await authority.revoke_ca(tx, ctx.scope, fact)
    details = {"ca_certificate_id": ca.id, "serial_number": ca.serial_number, "reason": reason, "note": note}
    event = Event(
        type=EventType.CA_REVOKED, subject_type="issuer", subject_id=ca.issuer_id, actor=actor, details=details
    )
    await append(tx, ctx.scope, now, event)
    notice = Notice(
        type="Revocation",
        certificate_id="",
        severity="critical",
        message=f"the CA {ca.name or ca.subject} ({ca.serial_number}) was revoked: {reason}",
        dedup_key=f"ca-revoked/{ca.id}",
    )
    await notify(tx, ctx.scope, now, notice)
