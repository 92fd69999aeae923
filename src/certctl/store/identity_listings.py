"""The lists of keys and people as data: API keys, browser sessions, users, break-glass credentials.

Hashes of keys, tokens and passwords are read with a record and shown by no view.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from certctl.core.catalogue import ApiKey
from certctl.core.people import BreakglassCredential, Session, SessionMethod, User
from certctl.store import schema
from certctl.store.lists import Filter, FilterKind, Listing, after, before, begins_with, equals, is_set, is_text, one_of

_K, _S, _U, _B = schema.api_keys.c, schema.sessions.c, schema.users.c, schema.breakglass_credentials.c


def _with_role(values: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.cast(_K.role_ids, sa.Text).contains(f'"{values[0]}"', autoescape=True)


KEYS: Listing[ApiKey] = Listing(
    name="auth/keys",
    kind=ApiKey,
    table=schema.api_keys,
    in_scope=lambda scope: _K.tenant_id == scope.tenant_id,
    filters={
        "created_by": is_text(_K.created_by),
        "agent_id": equals(_K.agent_id),
        "role_id": Filter(kind=FilterKind.TEXT, condition=_with_role, description="made with this role"),
        "revoked": is_set(_K.revoked_at),
        "expires_before": before(_K.expires_at),
        "used_before": before(_K.last_used_at),
        "created_after": after(_K.created_at),
    },
    sorts={
        "name": _K.name,
        "createdAt": _K.created_at,
        "expiresAt": _K.expires_at,
        "lastUsedAt": _K.last_used_at,
    },
    default="name",
    q=begins_with(_K.name, _K.id, _K.prefix),
    q_description="what a name, id or prefix begins with",
)


def keys_made_by(maker: str | None) -> Listing[ApiKey]:
    """The keys that somebody sees: with a `maker`, that key itself and those it made."""
    if maker is None:
        return KEYS
    return msgspec.structs.replace(KEYS, always=sa.or_(_K.created_by == maker, _K.name == maker))


SESSIONS: Listing[Session] = Listing(
    name="auth/sessions",
    kind=Session,
    table=schema.sessions,
    in_scope=lambda scope: _S.tenant_id == scope.tenant_id,
    filters={"method": one_of(_S.method, SessionMethod), "ip_address": is_text(_S.ip_address)},
    sorts={"createdAt": _S.created_at, "lastSeenAt": _S.last_seen_at, "idleExpiresAt": _S.idle_expires_at},
    default="-createdAt",
    q=begins_with(_S.actor_id, _S.id, _S.ip_address, _S.user_agent),
    q_description="what an actor, id, address or browser begins with",
)


def sessions_alive(now: datetime, actor_id: str, actor_type: str) -> Listing[Session]:
    """Sessions that are not over, of an actor or (empty) of all."""
    asked = {_S.actor_id: actor_id, _S.actor_type: actor_type}
    conditions = [_S.revoked_at.is_(None), _S.idle_expires_at > now, _S.absolute_expires_at > now]
    conditions += [column == value for column, value in asked.items() if value]
    name = f"{SESSIONS.name}/{actor_type}/{actor_id}"
    return msgspec.structs.replace(SESSIONS, name=name, always=sa.and_(*conditions))


USERS: Listing[User] = Listing(
    name="auth/users",
    kind=User,
    table=schema.users,
    in_scope=lambda scope: _U.tenant_id == scope.tenant_id,
    filters={
        "oidc_provider_id": equals(_U.oidc_provider_id),
        "email": is_text(_U.email),
        "deactivated": is_set(_U.deactivated_at),
    },
    sorts={
        "displayName": _U.display_name,
        "email": _U.email,
        "createdAt": _U.created_at,
        "lastLoginAt": _U.last_login_at,
    },
    default="displayName",
    q=begins_with(_U.display_name, _U.email, _U.id),
    q_description="what a name, address or id begins with",
)

CREDENTIALS: Listing[BreakglassCredential] = Listing(
    name="auth/breakglass/credentials",
    kind=BreakglassCredential,
    table=schema.breakglass_credentials,
    in_scope=lambda scope: _B.tenant_id == scope.tenant_id,
    filters={"created_by": is_text(_B.created_by)},
    sorts={"actorId": _B.id, "createdAt": _B.created_at, "lastFailureAt": _B.last_failure_at},
    default="actorId",
    q=begins_with(_B.id),
    q_description="what an actor's id begins with",
)
