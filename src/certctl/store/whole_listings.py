"""The lists that are short, and answered in one piece unless pages are asked for, as data: the roles and permissions
there are, the CAs of an issuer, where a certificate is.

Built-in roles and permissions lie in no table: they are the catalogue of the release, read here as rows like others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.catalogue import CaCertificate
from certctl.core.permissions import BUILT_IN_SINCE, PERMISSIONS, ROLES, namespace, permission_id
from certctl.core.scope import Scope
from certctl.core.target import TargetRecord
from certctl.store import schema
from certctl.store.lists import Listing, after, before, begins_with, equals, flag
from certctl.store.schema.columns import UtcTime


class RoleRow(Struct, frozen=True, kw_only=True):
    """A role, built in or made by operators."""

    id: str
    name: str
    description: str
    built_in: bool
    created_at: datetime
    updated_at: datetime
    row_version: int


class PermissionRow(Struct, frozen=True, kw_only=True):
    """One permission of the catalogue."""

    id: str
    name: str
    namespace: str


def _text(value: str, name: str) -> sa.Label[str]:
    return sa.literal(value, sa.Text()).label(name)


def _roles() -> sa.Subquery:
    """Both kinds as one table; `place` puts the built-in ones first, in the order of the catalogue. Those have no
    tenant: they are everybody's.
    """
    since = sa.literal(BUILT_IN_SINCE, UtcTime())
    built_in = [
        sa.select(
            _text("", "tenant_id"),
            _text(role.id, "id"),
            _text(role.name, "name"),
            _text(role.description, "description"),
            sa.literal(value=True, type_=sa.Boolean()).label("built_in"),
            _text(f"0{number:04}", "place"),
            since.label("created_at"),
            since.label("updated_at"),
            sa.literal(0, sa.Integer()).label("row_version"),
        )
        for number, role in enumerate(ROLES.values())
    ]
    c = schema.roles.c
    made = sa.select(
        c.tenant_id,
        c.id,
        c.name,
        c.description,
        sa.literal(value=False, type_=sa.Boolean()),
        sa.literal("1", sa.Text()).concat(c.name),
        c.created_at,
        c.updated_at,
        c.row_version,
    )
    return sa.union_all(*built_in, made).subquery("every_role")


def _permissions() -> sa.Subquery:
    rows = [
        sa.select(_text(permission_id(name), "id"), _text(name, "name"), _text(namespace(name), "namespace"))
        for name in sorted(PERMISSIONS)
    ]
    return sa.union_all(*rows).subquery("every_permission")


def _places() -> sa.Subquery:
    """Each target with each certificate that is mapped to it."""
    mapping, targets = schema.certificate_targets, schema.targets
    together = sa.and_(mapping.c.tenant_id == targets.c.tenant_id, mapping.c.target_id == targets.c.id)
    return sa.select(targets, mapping.c.certificate_id).join(mapping, together).subquery("places")


_EVERY_ROLE: Any = _roles()
_EVERY_PERMISSION: Any = _permissions()
_PLACES: Any = _places()
_R, _P, _T, _CA = _EVERY_ROLE.c, _EVERY_PERMISSION.c, _PLACES.c, schema.ca_certificates.c


def _everybodys(_scope: Scope) -> sa.ColumnElement[bool]:
    return sa.true()


EVERY_ROLE: Listing[RoleRow] = Listing(
    name="auth/roles",
    kind=RoleRow,
    table=_EVERY_ROLE,
    in_scope=lambda scope: _R.tenant_id.in_(("", scope.tenant_id)),
    filters={"built_in": flag(_R.built_in), "created_after": after(_R.created_at)},
    sorts={"place": _R.place, "name": _R.name, "createdAt": _R.created_at},
    default="place",
    q=begins_with(_R.name, _R.id),
    q_description="what a name or id begins with",
)

EVERY_PERMISSION: Listing[PermissionRow] = Listing(
    name="auth/permissions",
    kind=PermissionRow,
    table=_EVERY_PERMISSION,
    in_scope=_everybodys,
    filters={"namespace": equals(_P.namespace)},
    sorts={"name": _P.name, "namespace": _P.namespace},
    default="name",
    q=begins_with(_P.name),
    q_description="what a name begins with",
)

# of one issuer, which the route has found within the caller's scope
GENERATIONS: Listing[CaCertificate] = Listing(
    name="intermediates",
    kind=CaCertificate,
    table=schema.ca_certificates,
    in_scope=lambda scope: _CA.tenant_id == scope.tenant_id,
    filters={
        "kind": equals(_CA.kind, "root or intermediate"),
        "state": equals(_CA.state, "active, retiring or retired"),
        "expires_before": before(_CA.not_after),
    },
    sorts={"generation": _CA.generation, "name": _CA.name, "notAfter": _CA.not_after, "createdAt": _CA.created_at},
    default="-generation",
    q=begins_with(_CA.name, _CA.subject, _CA.serial_number),
    q_description="what a name, subject or serial number begins with",
)

# of one certificate, which the route has found within the caller's scope
PLACES: Listing[TargetRecord] = Listing(
    name="deployments",
    kind=TargetRecord,
    table=_PLACES,
    in_scope=lambda scope: _T.tenant_id == scope.tenant_id,
    filters={"type": equals(_T.type), "agent_id": equals(_T.agent_id), "enabled": flag(_T.enabled)},
    sorts={"id": _T.id, "name": _T.name, "type": _T.type, "createdAt": _T.created_at},
    default="id",
    q=begins_with(_T.name, _T.id),
    q_description="what a target's name or id begins with",
)
