"""Renewal information (RFC 9773): when to renew a certificate, and which order replaces it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from certctl.core.certificate import Version
from certctl.core.names import Name
from certctl.core.status import VersionStatus
from certctl.lifecycle.context import Context
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import serial_hex
from certctl.policy.renewal_information import replacement_window, suggested_window
from certctl.protocols.acme import naming
from certctl.protocols.acme.entering import Asked, House
from certctl.protocols.acme.exchange import Place, Reply, json_reply
from certctl.store import acme, authority
from certctl.store.tx import Tx
from certctl.wire.acme import CertificateId, read_certificate_id, show_time
from certctl.wire.problem import AcmeRefusal, ProblemType

# over how long all that a revoked CA has signed, or that an operator wishes replaced, come back
_SPREAD = timedelta(hours=1)


async def show(house: House, place: Place, text: str) -> Reply:
    """Renewal information about one certificate, to whoever asks (RFC 9773 4.1)."""
    if not house.rules.ari_enabled:
        raise AcmeRefusal(ProblemType.MALFORMED, "renewal information is off", status=404)
    ctx, wanted = house.state.ctx, read_certificate_id(text)
    async with ctx.database.read() as tx:
        found = await _find(tx, ctx, wanted)
        order = await acme.order_of_version(tx, ctx.scope, found.id) if found is not None else None
        if found is None or order is None or order.profile_id != place.profile_id:
            raise AcmeRefusal(ProblemType.MALFORMED, "no certificate of that name was ordered here", status=404)
        revoked = await acme.revoked_at(tx, ctx.scope, found.id)
        lost = await _ca_revoked_at(tx, ctx, found) if revoked is None else None
    wished = found.replacement_wished_at if found.status == VersionStatus.CURRENT and revoked is None else None
    if since := min((moment for moment in (lost, wished) if moment is not None), default=None):
        window = replacement_window(found.serial_number, since, _SPREAD)
    else:
        window = suggested_window(found.serial_number, found.not_before, found.not_after, revoked)
    told: dict[str, Any] = {"suggestedWindow": {"start": show_time(window.start), "end": show_time(window.end)}}
    if house.rules.ari_explanation_url and (revoked or lost or wished):
        told["explanationURL"] = house.rules.ari_explanation_url
    return json_reply(told, retry_after=house.rules.ari_poll_interval)


async def _ca_revoked_at(tx: Tx, ctx: Context, version: Version) -> datetime | None:
    """When a CA of ours above a version was revoked, the first of them: all below it have to be issued anew."""
    if not version.ca_certificate_id:
        return None
    revoked = await authority.ca_revocations(tx, ctx.scope, version.issuer_id)
    if not revoked:
        return None
    above = await authority.lineage(tx, ctx.scope, version.ca_certificate_id)
    return min((revoked[ca.id].revoked_at for ca in above if ca.id in revoked), default=None)


async def _find(tx: Tx, ctx: Context, wanted: CertificateId) -> Version | None:
    """By serial number, then by the key identifier that the certificate itself holds."""
    for version in await acme.versions_by_serial(tx, ctx.scope, serial_hex(wanted.serial_number)):
        if read_certificate(version.leaf_der).authority_key_identifier == wanted.key_identifier:
            return version
    return None


async def check_replaces(tx: Tx, asked: Asked, text: str | None, names: Sequence[Name]) -> str:
    """The certificate that an order says it replaces, in its one form; empty for none (RFC 9773 5)."""
    if text is None:
        return ""
    ctx, wanted = asked.house.state.ctx, read_certificate_id(text)
    found = await _find(tx, ctx, wanted)
    order = await acme.order_of_version(tx, ctx.scope, found.id) if found is not None else None
    if order is None or order.account_id != asked.mine.id:
        raise AcmeRefusal(ProblemType.MALFORMED, "replaces names no certificate of this account", status=404)
    if not {naming.kept(name) for name in names} & set(order.names):
        raise AcmeRefusal(ProblemType.MALFORMED, "the order has no name of the certificate that it replaces")
    if await acme.replacement_of(tx, ctx.scope, str(wanted)) is not None:
        raise AcmeRefusal(ProblemType.ALREADY_REPLACED, "another order replaces this certificate")
    return str(wanted)
