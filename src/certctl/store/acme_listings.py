"""The list of external account keys as data. Their secrets are read with a record and shown by no view."""

from __future__ import annotations

import sqlalchemy as sa

from certctl.core.acme import ExternalKey
from certctl.core.scope import Reach, Scope
from certctl.store import schema
from certctl.store.lists import Listing, before, begins_with, equals, is_set, is_text

_E = schema.acme_external_keys.c
_LIMITED_BY = {"teams": _E.team_id, "profiles": _E.profile_id}


def in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    """The keys that a scope may see: those whose team and profile it reaches."""
    mine = _E.tenant_id == scope.tenant_id
    if scope.is_whole:
        return mine
    return sa.and_(mine, sa.or_(sa.false(), *(_within(reach) for reach in scope.reaches)))


def _within(reach: Reach) -> sa.ColumnElement[bool]:
    limits = [_LIMITED_BY[field].in_(ids) if field in _LIMITED_BY else sa.false() for field, ids in reach.limits()]
    return sa.and_(sa.true(), *limits)


EXTERNAL_KEYS: Listing[ExternalKey] = Listing(
    name="acme/external-account-keys",
    kind=ExternalKey,
    table=schema.acme_external_keys,
    in_scope=in_scope,
    filters={
        "profile_id": equals(_E.profile_id),
        "owner_id": equals(_E.owner_id),
        "team_id": equals(_E.team_id),
        "created_by": is_text(_E.created_by),
        "bound_account_id": equals(_E.bound_account_id),
        "revoked": is_set(_E.revoked_at),
        "expires_before": before(_E.expires_at),
    },
    sorts={"name": _E.name, "createdAt": _E.created_at, "expiresAt": _E.expires_at},
    default="name",
    q=begins_with(_E.name, _E.id),
    q_description="what a name or id begins with",
)
