"""suggest: CAs that say when they would like a certificate to be renewed (RFC 9773) are asked, and renewal goes by it.

Each current version of such an issuer is asked about when its CA wished to be asked again. Writes what was said, and
that its certificate is looked at anew; decides nothing itself.
"""

from __future__ import annotations

from datetime import timedelta

from certctl.connectors.base.issuer import Suggestion, SuggestsRenewal
from certctl.core.catalogue import IssuerRecord
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.pki.pem import read_certificates
from certctl.store import asked, catalogue, certificates
from certctl.store.asked import Asked, SuggestionRecord
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

KINDS = ("ACME",)
_AT_ONCE = 20
# where a CA says nothing, or cannot be asked: RFC 9773 4.3.3 wants retries, and patience
_NOTHING_SAID, _AFTER_ERROR = timedelta(days=1), timedelta(hours=1)


async def tick(ctx: Context) -> int:
    """Ask about the versions whose time has come; returns how many were. Call again while it is not 0."""
    async with ctx.database.read() as tx:
        found = await asked.to_ask(tx, ctx.scope, KINDS, ctx.now(), _AT_ONCE)
        issuers = await catalogue.many(tx, ctx.scope, IssuerRecord, tuple({one.issuer_id for one in found}))
    for one in found:
        try:
            issuer = await ctx.open_issuer(issuers[one.issuer_id])
            said: Suggestion | CertctlError | None = None
            if isinstance(issuer, SuggestsRenewal):
                said = await issuer.suggest(one.leaf_der, read_certificates(one.chain_pem) if one.chain_pem else ())
        except CertctlError as error:
            log.info("renewal_information_not_had", version_id=one.id, error=error.message)
            said = error
        await _keep(ctx, one, said)
    return len(found)


async def _keep(ctx: Context, one: Asked, said: Suggestion | CertctlError | None) -> None:
    now = ctx.now()
    told = said if isinstance(said, Suggestion) else None
    record = SuggestionRecord(
        tenant_id=ctx.scope.tenant_id,
        version_id=one.id,
        window_start=told.start if told else None,
        window_end=told.end if told else None,
        explanation_url=told.explanation_url if told else "",
        error=said.message if isinstance(said, CertctlError) else "",
        ask_again_at=now + (told.ask_again_after if told else _AFTER_ERROR if said else _NOTHING_SAID),
        updated_at=now,
    )
    async with ctx.database.begin("suggest") as tx:
        before = (await asked.suggestions(tx, ctx.scope, (one.id,))).get(one.id)
        await asked.keep_suggestion(tx, ctx.scope, record)
        was = (before.window_start, before.window_end) if before else (None, None)
        if told is None or was == (told.start, told.end):
            return
        certificate: Certificate = await certificates.certificate(tx, ctx.scope, one.certificate_id, lock=True)
        await certificates.change_certificate(tx, ctx.scope, certificate.id, now, next_check_at=now)
        details = {
            "version_id": one.id,
            "window_start": told.start.isoformat(),
            "window_end": told.end.isoformat(),
            "explanation_url": told.explanation_url,
        }
        event = Event(
            type=EventType.RENEWAL_SUGGESTED,
            subject_type="certificate",
            subject_id=one.certificate_id,
            actor=ctx.actor,
            details=details,
        )
        await append(tx, ctx.scope, now, event)
