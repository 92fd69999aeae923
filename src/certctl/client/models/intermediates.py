"""The built-in CA's generations: the reference product's fields."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Pem, Text
from certctl.client.models.page import Paged

Words = Annotated[list[Text], Meta(max_length=100)]


class CaSubjectBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A CA's distinguished name."""

    common_name: Text
    organization: Words = []
    organizational_unit: Words = []
    country: Words = []
    locality: Words = []
    province: Words = []


class NameConstraintBody(Struct, frozen=True, kw_only=True):
    """What a CA may speak for, and what not: DNS names, networks, e-mail addresses or `@` domains."""

    permitted: Words = []
    excluded: Words = []


class IntermediateWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A new intermediate. Without `parent_ca_id` it stands below the root; `path_len_constraint` 0 issues leaves.

    Not supported, and refused: `root_cert_pem`, a `key_driver_id` other than `database`, `ocsp_responder_url`.
    """

    name: Text
    subject: CaSubjectBody
    parent_ca_id: Id = ""
    root_cert_pem: Pem = ""
    key_driver_id: Text = ""
    algorithm: Text = ""
    ttl_days: Annotated[int, Meta(ge=1, le=7305)] = 1826
    path_len_constraint: Annotated[int, Meta(ge=0, le=8)] | None = None
    name_constraints: Annotated[list[NameConstraintBody], Meta(max_length=20)] = []
    ocsp_responder_url: Text = ""
    metadata: dict[Text, Text] = {}


class IntermediateView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One CA generation. Its validity ends within its parent's; a root has no parent."""

    id: str
    owning_issuer_id: str
    name: str
    subject: str
    state: str
    cert_pem: str
    key_driver_id: str
    not_before: datetime
    not_after: datetime
    created_at: datetime
    updated_at: datetime
    kind: str
    generation: int
    issues_leaves: bool
    parent_ca_id: str = ""
    path_len_constraint: int | None = None
    name_constraints: list[NameConstraintBody] = []
    ocsp_responder_url: str = ""
    metadata: dict[str, str] = {}
    revoked_at: datetime | None = None
    revocation_reason: str = ""


class IntermediatesAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """Every generation of an issuer, newest first, roots too."""

    data: list[IntermediateView]


class RetireCaBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First call: it issues no more. Again with `confirm`: it is retired, once nothing needs it."""

    note: Text = ""
    confirm: bool = False


class RevokeCaBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`confirm` revokes it though something needs it still; the reason is `caCompromise` unless another is given."""

    reason: Text = ""
    note: Text = ""
    confirm: bool = False


class RetiredCaAnswer(Struct, frozen=True, kw_only=True):
    """`confirmed` says that it is retired, not only retiring."""

    id: str
    decided_by: str
    confirmed: bool
