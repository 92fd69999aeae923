"""Certificates: fetched by the account that ordered them (RFC 8555 7.4.2), revoked by whoever may (7.6)."""

from __future__ import annotations

from certctl.core.acme import AcmeAccount, AcmeOrder
from certctl.core.actor import Actor, ActorType
from certctl.core.certificate import Version
from certctl.core.errors import Conflict, Malformed
from certctl.core.names import NameKind
from certctl.core.status import VersionStatus
from certctl.lifecycle import revoke
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import spki_der
from certctl.pki.pem import certificate_pem, chain_pem, read_certificates
from certctl.policy.revocation import RevocationReason
from certctl.protocols.acme.entering import Asked
from certctl.protocols.acme.exchange import Reply
from certctl.store import acme, authority, views
from certctl.store.acme_entering import Subject
from certctl.store.tx import Tx
from certctl.wire import acme as wire
from certctl.wire import jws
from certctl.wire.acme import PEM_CHAIN, Revocation
from certctl.wire.problem import AcmeRefusal, ProblemType

_DER = "application/pkix-cert"
_MOST_CHAIN = 10
# what a subscriber can say of its own certificate (RFC 5280 5.3.1)
_REASONS = {
    0: RevocationReason.UNSPECIFIED,
    1: RevocationReason.KEY_COMPROMISE,
    3: RevocationReason.AFFILIATION_CHANGED,
    4: RevocationReason.SUPERSEDED,
    5: RevocationReason.CESSATION_OF_OPERATION,
    9: RevocationReason.PRIVILEGE_WITHDRAWN,
}


def about(version_id: str, alternate: str = "") -> Subject:
    """What is read with whoever asks for a certificate."""
    del alternate
    return Subject(version_id=version_id)


async def download(asked: Asked, version_id: str, alternate: str = "") -> Reply:
    """A certificate with its chain; the alternate chain has the root too, for those who want it sent."""
    if not asked.is_read:
        raise Malformed("a certificate is fetched with POST-as-GET: an empty payload")
    ctx = asked.house.state.ctx
    version = asked.found.version if asked.found is not None else None
    if version is None:
        raise AcmeRefusal(ProblemType.MALFORMED, "there is no such certificate", status=404)
    chains = await _chains(asked, version)
    chosen = int(alternate) if alternate in {"1"} else 0
    if (alternate and not chosen) or chosen >= len(chains):
        raise AcmeRefusal(ProblemType.MALFORMED, "there is no such chain", status=404)
    address = asked.place.at("cert", version_id)
    others = [address, *(f"{address}/{number}" for number in range(1, len(chains)))]
    links = [(other, "alternate") for number, other in enumerate(others) if number != chosen]
    kind = _wanted(asked.accept)
    if kind == _DER:
        issuer = f"{ctx.addresses.base_url}/.well-known/pki/certs/{version.ca_certificate_id}"
        return Reply(body=version.leaf_der, content_type=_DER, links=(*links, (issuer, "up")))
    return Reply(body=chains[chosen].encode(), content_type=PEM_CHAIN, links=tuple(links))


def _wanted(accept: str) -> str:
    """What `Accept` allows of the two forms there are; the PEM chain unless something else is said (RFC 8555 7.4.2)."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if not kinds or {PEM_CHAIN, "application/*", "*/*"} & set(kinds):
        return PEM_CHAIN
    if _DER in kinds:
        return _DER
    raise AcmeRefusal(ProblemType.MALFORMED, f"certificates come as {PEM_CHAIN} or {_DER}", status=406)


async def _chains(asked: Asked, version: Version) -> list[str]:
    """The default chain; then the one up to the root, when a CA of ours signed it and the default stops below."""
    above = list(read_certificates(version.chain_pem)) if version.chain_pem else []
    default = certificate_pem(version.leaf_der) + chain_pem(above)
    scope = asked.house.state.ctx.scope
    full: list[bytes] = []
    ca_id = version.ca_certificate_id
    links = asked.house.links
    while ca_id and len(full) < _MOST_CHAIN:
        if ca_id not in links:
            async with asked.house.state.ctx.database.read() as tx:
                found = await authority.ca_certificate(tx, scope, ca_id)
            if found is None:
                return [default]
            links[ca_id] = found.certificate_der, found.parent_id
        certificate_der, ca_id = links[ca_id]
        full.append(certificate_der)
    if not full or full == above:
        return [default]
    return [default, certificate_pem(version.leaf_der) + chain_pem(full)]


async def revoke_certificate(asked: Asked) -> Reply:
    """revokeCert: signed by an account that ordered it or is authorized for all its names, or by its own key."""
    wanted = wire.read(asked.payload, Revocation)
    certificate_der = jws.decode(wanted.certificate, "certificate")
    facts = read_certificate(certificate_der)
    reason = _REASONS.get(wanted.reason or 0)
    if reason is None:
        told = ", ".join(f"{number} ({name})" for number, name in _REASONS.items())
        raise AcmeRefusal(ProblemType.BAD_REVOCATION_REASON, f"reasons are {told}")
    ctx = asked.house.state.ctx
    async with ctx.database.read() as tx:
        version = await acme.version_by_fingerprint(tx, ctx.scope, sha256_hex(certificate_der))
        order = await acme.order_of_version(tx, ctx.scope, version.id) if version is not None else None
        if version is None or not await _is_of_here(tx, asked, version, order):
            raise AcmeRefusal(ProblemType.MALFORMED, "this certificate was not issued here", status=404)
        if not await _may_revoke(tx, asked, version, order):
            raise AcmeRefusal(ProblemType.UNAUTHORIZED, "neither this account nor this key may revoke it")
    if version.status == VersionStatus.REVOKED:
        raise AcmeRefusal(ProblemType.ALREADY_REVOKED, "it was revoked before")
    if facts.not_after <= ctx.now():
        raise Malformed("it has expired, and is trusted by nobody")
    actor = asked.actor
    if asked.account is None:
        actor = Actor(f"acme-cert-key:{version.serial_number}", ActorType.ACME_ACCOUNT, asked.request_id, asked.address)
    try:
        await revoke.trigger(ctx, ctx.scope, actor, version.certificate_id, reason=str(reason), version_id=version.id)
    except Conflict as error:
        raise AcmeRefusal(ProblemType.ALREADY_REVOKED, error.message) from error
    return Reply()


async def _is_of_here(tx: Tx, asked: Asked, version: Version, order: AcmeOrder | None) -> bool:
    """Whether it was ordered in this directory, or is of its profile, however it was asked for."""
    if order is not None and order.profile_id == asked.profile.id:
        return True
    certificate = await views.certificate(tx, asked.house.state.ctx.scope, version.certificate_id)
    return certificate.certificate_profile_id == asked.profile.id


async def _may_revoke(tx: Tx, asked: Asked, version: Version, order: AcmeOrder | None) -> bool:
    account: AcmeAccount | None = asked.account
    if account is None:
        return spki_der(asked.jwk.key) == read_certificate(version.leaf_der).spki_der
    if order is not None and order.account_id == account.id:
        return True
    ctx = asked.house.state.ctx
    held = await acme.authorized_names(tx, ctx.scope, account.id, ctx.now())
    names = list(read_certificate(version.leaf_der).names)
    for name in names:
        wild = name.kind is NameKind.DNS and name.value.startswith("*.")
        if (f"{name.kind}:{name.value.removeprefix('*.')}", wild) not in held:
            return False
    return bool(names)
