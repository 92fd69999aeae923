"""The built-in CA's generations: a new intermediate takes issuing over, an old one retires while CRL and OCSP go on.

Serial and whole TBS are stored before anything is signed, and `finish` signs what a crash left: the same bytes, since
signatures are deterministic. Keys are made and sealed inside. A foreign parent is not supported and told so.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
from cryptography import x509
from msgspec import Struct

from certctl.authority.hierarchy import CaSubject, CaTemplate, draft_intermediate, sign_intermediate
from certctl.authority.signer import IssuingCA, SealedKey
from certctl.control.changes import check_name, fault
from certctl.control.installation import BUILT_IN_ISSUER
from certctl.control.usage import Sees, told
from certctl.core.actor import Actor
from certctl.core.catalogue import CaCertificate, CaIntent, IssuerRecord
from certctl.core.errors import Blocked, Conflict, Malformed, Misconfigured, NotFound, TrustError, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.names import canonical_dns
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import serial_hex
from certctl.store import authority, catalogue
from certctl.store.tx import Tx
from certctl.telemetry import points

KEY_DRIVER = "database"
DEFAULT_DAYS = 1826
_LEAVE_TO_ITS_MAKER = timedelta(minutes=1)


class NewIntermediate(Struct, frozen=True, kw_only=True):
    """What is wished. `permitted` and `excluded` are DNS names, networks, or e-mail addresses and `@` domains."""

    name: str
    subject: CaSubject
    parent_ca_id: str = ""
    root_cert_pem: str = ""
    key_driver_id: str = ""
    algorithm: str = ""
    ttl_days: int = DEFAULT_DAYS
    path_length: int = 0
    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    ocsp_responder_url: str = ""
    metadata: dict[str, str] = {}


async def create(ctx: Context, scope: Scope, actor: Actor, issuer_id: str, wanted: NewIntermediate) -> CaCertificate:
    """Make a key, store the intent, sign, record; an issuing one takes over from those before it, which retire."""
    name = check_name(wanted.name)
    _refuse_unsupported(wanted)
    algorithm, template = _algorithm(wanted.algorithm), _template(wanted)
    async with ctx.database.read() as tx:
        await _own_issuer(tx, scope, issuer_id)
        parent = await _parent(tx, ctx, issuer_id, wanted.parent_ca_id)
        signing = await authority.issuing_ca(tx, ctx.scope, parent.id)
    key = await ctx.create_key(algorithm)
    intent = _draft(ctx, actor, parent, signing, key, template, msgspec.structs.replace(wanted, name=name))
    async with ctx.database.begin("ca.intent") as tx:
        intent = msgspec.structs.replace(intent, generation=await authority.next_generation(tx, ctx.scope, issuer_id))
        await authority.insert_key(tx, ctx.scope, key, ctx.now())
        await authority.insert_intent(tx, ctx.scope, intent)
        details = {"ca_certificate_id": intent.id, "serial_number": intent.serial_number, "name": name}
        await append(tx, ctx.scope, ctx.now(), _event(EventType.CA_INTENDED, issuer_id, actor, details))
    return await _act(ctx, actor, intent)


async def finish(ctx: Context) -> int:
    """Sign and record every intent that its maker left more than a minute ago; returns how many."""
    async with ctx.database.read() as tx:
        left = await authority.open_intents(tx, ctx.scope)
    old = [intent for intent in left if ctx.now() - intent.created_at > _LEAVE_TO_ITS_MAKER]
    for intent in old:
        await _act(ctx, ctx.actor, intent)
    return len(old)


async def find(tx: Tx, scope: Scope, ca_certificate_id: str) -> CaCertificate:
    """One generation of an issuer that the scope may see; NotFound otherwise."""
    found = await authority.ca_certificate(tx, scope, ca_certificate_id)
    if found is None or await catalogue.find(tx, scope, IssuerRecord, id=found.issuer_id) is None:
        raise NotFound(f"no CA {ca_certificate_id}")
    return found


async def issuer(tx: Tx, scope: Scope, issuer_id: str) -> IssuerRecord:
    """An issuer whose generations are asked for; NotFound outside the scope."""
    return await catalogue.get(tx, scope, IssuerRecord, issuer_id)


async def retire(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    ca_certificate_id: str,
    *,
    note: str,
    confirm: bool,
    sees: Sees | None = None,
) -> bool:
    """First it signs no more leaves (retiring), then, confirmed and needed by nothing, it is retired: True.

    Conflict for a root and for the only one that issues; Blocked with counts while something needs it.
    """
    now = ctx.now()
    async with ctx.database.begin("ca.retire") as tx:
        ca = await find(tx, scope, ca_certificate_id)
        if ca.kind == "root":
            raise Conflict("a root is not retired: every chain ends in it")
        if ca.state == "retired":
            return True
        if ca.state == "active":
            await _check_successor(tx, ctx, ca)
            await _move(tx, ctx, actor, ca, "retiring", note, now)
            return False
        if not confirm:
            return False
        counts: dict[str, int] = msgspec.to_builtins(await authority.ca_dependencies(tx, ctx.scope, ca.id, now))
        if any(counts.values()):
            visible = sees("cert.read") if sees else scope
            seen: dict[str, int] = msgspec.to_builtins(await authority.ca_dependencies(tx, visible, ca.id, now))
            raise Blocked(f"CA {ca.id} is still needed by {told(seen, counts)}", counts=seen)
        await _move(tx, ctx, actor, ca, "retired", note, now)
        return True


async def _act(ctx: Context, actor: Actor, intent: CaIntent) -> CaCertificate:
    """Sign the stored bytes and record the certificate; done twice it is the same certificate, recorded once."""
    async with ctx.database.read() as tx:
        parent = await authority.issuing_ca(tx, ctx.scope, intent.parent_id)
        key = await authority.load_key(tx, ctx.scope, intent.key_ref)
    points.reach("ca.signing")
    der = await sign_intermediate(intent.tbs_der, key.spki_der, parent, ctx.signer)
    points.reach("ca.signed")
    record = _record(intent, der, ctx.now())
    async with ctx.database.begin("ca.record") as tx:
        if await authority.answer_intent(tx, ctx.scope, intent.id, ctx.now()):
            before = await authority.ca_certificates_of(tx, ctx.scope, intent.issuer_id)
            await authority.insert_ca_certificate(tx, ctx.scope, record)
            details = {"ca_certificate_id": record.id, "serial_number": record.serial_number, "name": record.name}
            await append(tx, ctx.scope, ctx.now(), _event(EventType.CA_CREATED, record.issuer_id, actor, details))
            for old in before if record.issues_leaves else ():
                if old.issues_leaves and old.id != intent.parent_id:
                    await _move(tx, ctx, actor, old, "retiring", f"{record.name} issues now", ctx.now())
        found = await authority.ca_certificate(tx, ctx.scope, intent.id)
    if found is None or found.certificate_der != der:
        raise TrustError(f"CA {intent.id} was recorded with other bytes than were signed")
    return found


async def _move(tx: Tx, ctx: Context, actor: Actor, ca: CaCertificate, state: str, note: str, now: datetime) -> None:
    if not await authority.move_ca(tx, ctx.scope, ca.id, ca.state, state, now):
        raise Conflict(f"CA {ca.id} was changed this moment")
    kind = EventType.CA_RETIRED if state == "retired" else EventType.CA_RETIRING
    details = {"ca_certificate_id": ca.id, "name": ca.name or ca.subject, "note": note}
    await append(tx, ctx.scope, now, _event(kind, ca.issuer_id, actor, details))


async def _own_issuer(tx: Tx, scope: Scope, issuer_id: str) -> None:
    await catalogue.get(tx, scope, IssuerRecord, issuer_id)
    if issuer_id != BUILT_IN_ISSUER:
        message = f"only the built-in CA ({BUILT_IN_ISSUER}) has a hierarchy here; {issuer_id} keeps its own"
        raise fault("not_our_hierarchy", message, "id")


async def _parent(tx: Tx, ctx: Context, issuer_id: str, parent_id: str) -> CaCertificate:
    known = await authority.ca_certificates_of(tx, ctx.scope, issuer_id)
    if parent_id:
        found = next((ca for ca in known if ca.id == parent_id), None)
        if found is None:
            raise fault("unknown_reference", f"issuer {issuer_id} has no CA {parent_id}", "parent_ca_id")
    else:
        found = next((ca for ca in known if ca.kind == "root" and ca.state == "active"), None)
    if found is None or found.state != "active":
        raise Conflict("an intermediate needs an active parent")
    return found


async def _check_successor(tx: Tx, ctx: Context, ca: CaCertificate) -> None:
    known = await authority.ca_certificates_of(tx, ctx.scope, ca.issuer_id)
    if ca.issues_leaves and not any(other.issues_leaves for other in known if other.id != ca.id):
        raise Conflict(f"CA {ca.id} is the only one that issues; make its successor first")


def _draft(
    ctx: Context,
    actor: Actor,
    parent: CaCertificate,
    signing: IssuingCA,
    key: SealedKey,
    template: CaTemplate,
    wanted: NewIntermediate,
) -> CaIntent:
    try:
        draft = draft_intermediate(template, key, signing, ctx.addresses, ctx.now())
    except (Misconfigured, TrustError) as error:
        # TrustError is the lint's: what was asked for is weaker or wider than what stands above it
        message = error.detail if isinstance(error, TrustError) else error.message
        raise Malformed(message, violations=(Violation("ca_cannot_be", message),)) from error
    return CaIntent(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("ica"),
        issuer_id=parent.issuer_id,
        parent_id=parent.id,
        key_ref=key.key_ref,
        key_algorithm=str(key.algorithm),
        generation=0,
        name=wanted.name,
        metadata=wanted.metadata,
        path_length=template.path_length,
        serial_number=serial_hex(draft.serial_number),
        tbs_der=draft.tbs_der,
        created_by=actor.id,
        created_at=ctx.now(),
        answered_at=None,
    )


def _record(intent: CaIntent, der: bytes, now: datetime) -> CaCertificate:
    facts = read_certificate(der)
    return CaCertificate(
        tenant_id=intent.tenant_id,
        id=intent.id,
        issuer_id=intent.issuer_id,
        parent_id=intent.parent_id,
        kind="intermediate",
        key_ref=intent.key_ref,
        key_algorithm=intent.key_algorithm,
        state="active",
        generation=intent.generation,
        subject=facts.common_name,
        serial_number=intent.serial_number,
        certificate_der=der,
        not_before=facts.not_before,
        not_after=facts.not_after,
        created_at=now,
        name=intent.name,
        metadata=intent.metadata,
        path_length=intent.path_length,
        updated_at=now,
    )


def _refuse_unsupported(wanted: NewIntermediate) -> None:
    if wanted.root_cert_pem:
        message = "a foreign parent is not supported: intermediates are signed under the built-in root alone"
        raise fault("not_supported", message, "root_cert_pem")
    if wanted.key_driver_id not in {"", KEY_DRIVER}:
        message = f"key driver {wanted.key_driver_id[:64]!r} is not supported; keys are sealed in the database"
        raise fault("not_supported", message, "key_driver_id")
    if wanted.ocsp_responder_url:
        message = "an OCSP address of its own is not supported: it is that of this control plane"
        raise fault("not_supported", message, "ocsp_responder_url")


def _algorithm(text: str) -> KeyAlgorithm:
    known = {str(each).casefold(): each for each in KeyAlgorithm}
    found = known.get((text or str(KeyAlgorithm.ECDSA_P256)).casefold())
    if found is None:
        raise fault("unknown_key_algorithm", f"algorithm is one of {', '.join(map(str, KeyAlgorithm))}", "algorithm")
    return found


def _template(wanted: NewIntermediate) -> CaTemplate:
    return CaTemplate(
        subject=wanted.subject,
        validity=timedelta(days=wanted.ttl_days),
        path_length=wanted.path_length,
        permitted=_subtrees(wanted.permitted, "permitted"),
        excluded=_subtrees(wanted.excluded, "excluded"),
    )


def _subtrees(texts: tuple[str, ...], field: str) -> tuple[x509.GeneralName, ...]:
    found: list[x509.GeneralName] = []
    for text in texts:
        try:
            found.append(_subtree(text.strip()))
        except (Malformed, ValueError) as error:
            message = f"name_constraints.{field}: {text[:64]!r} is no DNS name, network or e-mail domain"
            raise fault("constraint_has_wrong_form", message, f"name_constraints.{field}") from error
    return tuple(dict.fromkeys(found))


def _subtree(text: str) -> x509.GeneralName:
    """RFC 5280 4.2.1.10: `example.com` and all below it, a network, one mailbox or the mailboxes of a host."""
    if "/" in text or ":" in text:
        return x509.IPAddress(ip_network(text))
    if "@" in text:
        local, _, host = text.rpartition("@")
        return x509.RFC822Name(f"{local}@{canonical_dns(host)}" if local else canonical_dns(host))
    if text.replace(".", "").isdigit():
        return x509.IPAddress(ip_network(text))
    base = canonical_dns(text.removeprefix("."))
    if base.startswith("*"):
        raise ValueError("a constraint has no wildcard")
    return x509.DNSName(base)


def _event(kind: EventType, issuer_id: str, actor: Actor, details: dict[str, Any]) -> Event:
    return Event(type=kind, subject_type="issuer", subject_id=issuer_id, actor=actor, details=details)
