"""People and their sessions: browser sessions, users of an identity provider, break-glass credentials."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class SessionMethod(StrEnum):
    """How a session was begun."""

    API_KEY = "api_key"
    BREAKGLASS = "breakglass"
    OIDC = "oidc"


class Session(Struct, frozen=True, kw_only=True):
    """A browser session, by the SHA-256 of its token and of its CSRF token. `key_id` is the key it was begun with."""

    tenant_id: str
    id: str
    token_hash: str
    csrf_hash: str
    actor_id: str
    actor_type: str
    method: str
    key_id: str
    ip_address: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    revoked_at: datetime | None
    revoked_reason: str


class User(Struct, frozen=True, kw_only=True):
    """A person, as an identity provider named them."""

    tenant_id: str
    id: str
    email: str
    display_name: str
    oidc_subject: str
    oidc_provider_id: str
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None


class BreakglassCredential(Struct, frozen=True, kw_only=True):
    """A password (argon2id, PHC string) with which somebody becomes administrator when nothing else works; `id` is the
    actor's.
    """

    tenant_id: str
    id: str
    password_hash: str
    created_by: str
    created_at: datetime
    last_password_change_at: datetime
    failure_count: int
    last_failure_at: datetime | None
    locked_until: datetime | None
