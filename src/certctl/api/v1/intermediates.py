"""/api/v1/issuers/{id}/intermediates and /api/v1/intermediates: the built-in CA's generations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from cryptography import x509
from litestar import get, post
from litestar.params import FromPath, JSONBody

from certctl.api.guard import needs
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.authority.hierarchy import CaSubject
from certctl.client.models.intermediates import (
    IntermediatesAnswer,
    IntermediateView,
    IntermediateWrite,
    NameConstraintBody,
    RetireCaBody,
    RetiredCaAnswer,
    RevokeCaBody,
)
from certctl.control import ca_revocation, hierarchy
from certctl.core.catalogue import CaCertificate
from certctl.lifecycle.context import Context
from certctl.pki.certs import extension_of, load_certificate
from certctl.pki.pem import certificate_pem
from certctl.pki.sans import text_of
from certctl.store import authority
from certctl.store.authority import RevokedSerial
from certctl.store.whole_listings import GENERATIONS


def _view(
    ctx: Context, ca: CaCertificate, revoked: Mapping[str, RevokedSerial] = MappingProxyType({})
) -> IntermediateView:
    fact = revoked.get(ca.id)
    certificate = load_certificate(ca.certificate_der)
    basic = extension_of(certificate, x509.BasicConstraints)
    return shown(
        IntermediateView,
        ca,
        owning_issuer_id=ca.issuer_id,
        parent_ca_id=ca.parent_id,
        name=ca.name or ca.subject,
        subject=certificate.subject.rfc4514_string(),
        cert_pem=certificate_pem(ca.certificate_der),
        key_driver_id=hierarchy.KEY_DRIVER,
        updated_at=ca.updated_at or ca.created_at,
        path_len_constraint=basic.path_length if basic is not None else None,
        name_constraints=_constraints(certificate),
        ocsp_responder_url=ctx.addresses.ocsp(ca.id),
        revoked_at=fact.revoked_at if fact else None,
        revocation_reason=fact.reason if fact else "",
    )


def _constraints(certificate: x509.Certificate) -> list[NameConstraintBody]:
    found = extension_of(certificate, x509.NameConstraints)
    if found is None:
        return []
    permitted = [text_of(base) for base in found.permitted_subtrees or ()]
    return [NameConstraintBody(permitted=permitted, excluded=[text_of(base) for base in found.excluded_subtrees or ()])]


@post(
    "/issuers/{issuer_id:str}/intermediates",
    status_code=201,
    opt=needs("ca.hierarchy.manage"),
    summary="Make an intermediate",
)
async def create_intermediate(
    request: ApiRequest, issuer_id: FromPath[str], data: JSONBody[IntermediateWrite]
) -> IntermediateView:
    """One with path length 0 issues from now on, and what issued before it retires; CRL and OCSP of that go on."""
    wanted = hierarchy.NewIntermediate(
        name=data.name,
        subject=msgspec.convert(msgspec.to_builtins(data.subject), CaSubject),
        parent_ca_id=data.parent_ca_id,
        root_cert_pem=data.root_cert_pem,
        key_driver_id=data.key_driver_id,
        algorithm=data.algorithm,
        ttl_days=data.ttl_days,
        path_length=data.path_len_constraint or 0,
        permitted=tuple(text for each in data.name_constraints for text in each.permitted),
        excluded=tuple(text for each in data.name_constraints for text in each.excluded),
        ocsp_responder_url=data.ocsp_responder_url,
        metadata=data.metadata,
    )
    made = await hierarchy.create(request.ctx, request.visible, request.actor, issuer_id, wanted)
    return _view(request.ctx, made)


@get(
    "/issuers/{issuer_id:str}/intermediates",
    opt=needs("ca.hierarchy.manage") | in_one_piece(GENERATIONS),
    summary="List an issuer's CAs",
)
async def list_intermediates(request: ApiRequest, issuer_id: FromPath[str]) -> IntermediatesAnswer:
    """Newest first, roots too."""
    async with request.ctx.database.read() as tx:
        await hierarchy.issuer(tx, request.visible, issuer_id)
        revoked = await authority.ca_revocations(tx, request.ctx.scope, issuer_id)
    return await answer_whole(
        request,
        IntermediatesAnswer,
        IntermediateView,
        show=functools.partial(_view, request.ctx, revoked=revoked),
        fixed={"issuer_id": issuer_id},
    )


@get("/intermediates/{ca_id:str}", opt=needs("ca.hierarchy.manage"), summary="One CA")
async def show_intermediate(request: ApiRequest, ca_id: FromPath[str]) -> IntermediateView:
    """One CA generation."""
    async with request.ctx.database.read() as tx:
        found = await hierarchy.find(tx, request.visible, ca_id)
        return _view(request.ctx, found, await authority.ca_revocations(tx, request.ctx.scope, found.issuer_id))


@post("/intermediates/{ca_id:str}/retire", status_code=200, opt=needs("ca.hierarchy.manage"), summary="Retire a CA")
async def retire_intermediate(
    request: ApiRequest, ca_id: FromPath[str], data: JSONBody[RetireCaBody]
) -> RetiredCaAnswer:
    """It issues no more; with `confirm`, once nothing needs it, it is retired. What needs it answers 409."""
    confirmed = await hierarchy.retire(
        request.ctx,
        request.visible,
        request.actor,
        ca_id,
        note=data.note,
        confirm=data.confirm,
        sees=request.seen_by,
    )
    return RetiredCaAnswer(id=ca_id, decided_by=request.actor.id, confirmed=confirmed)


@post("/intermediates/{ca_id:str}/revoke", status_code=200, opt=needs("ca.hierarchy.manage"), summary="Revoke a CA")
async def revoke_intermediate(
    request: ApiRequest, ca_id: FromPath[str], data: JSONBody[RevokeCaBody]
) -> IntermediateView:
    """The CRL and OCSP of the CA above it say so at once, and nothing below it issues any more. What needs it answers
    409 unless `confirm` is set. Again adds nothing.
    """
    found = await ca_revocation.revoke(
        request.ctx,
        request.visible,
        request.actor,
        ca_id,
        reason=data.reason,
        note=data.note,
        confirm=data.confirm,
        sees=request.seen_by,
    )
    async with request.ctx.database.read() as tx:
        return _view(request.ctx, found, await authority.ca_revocations(tx, request.ctx.scope, found.issuer_id))


HANDLERS = (create_intermediate, list_intermediates, show_intermediate, retire_intermediate, revoke_intermediate)
