"""Browser sessions, users and break-glass credentials. Passwords and tokens go in, never out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id
from certctl.client.models.page import Paged


class LoginBody(Struct, frozen=True, kw_only=True):
    """An API key to begin a browser session with."""

    api_key: Annotated[str, Meta(max_length=512)]


class BreakglassLogin(Struct, frozen=True, kw_only=True):
    """A break-glass password."""

    actor_id: Id
    password: Annotated[str, Meta(max_length=1024)]


class BreakglassWrite(Struct, frozen=True, kw_only=True):
    """A break-glass password to set: 12 to 256 bytes."""

    actor_id: Id
    password: Annotated[str, Meta(max_length=1024)]


class BreakglassMade(Struct, frozen=True, kw_only=True):
    """Whose password was set."""

    actor_id: str
    created_at: datetime


class BreakglassView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A break-glass credential without its password."""

    actor_id: str
    created_at: datetime
    last_password_change_at: datetime
    failure_count: Annotated[int, Meta(ge=0)]
    created_by: str
    locked_until: datetime | None = None
    last_failure_at: datetime | None = None


class BreakglassAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """Break-glass credentials."""

    credentials: list[BreakglassView]


class SessionView(Struct, frozen=True, kw_only=True):
    """A browser session that lasts."""

    id: str
    actor_id: str
    actor_type: str
    method: str
    ip_address: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    revoked: bool
    current: bool


class SessionsAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """Sessions."""

    sessions: list[SessionView]


class RevokedAnswer(Struct, frozen=True, kw_only=True):
    """How many sessions were ended."""

    revoked_count: int


class LoginAnswer(Struct, frozen=True, kw_only=True):
    """A session just begun; its token is in a cookie that scripts cannot read."""

    session_id: str
    actor_id: str
    actor_type: str
    csrf_token: str
    idle_expires_at: datetime
    absolute_expires_at: datetime


class UserView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person, as an identity provider named them."""

    id: str
    tenant_id: str
    email: str
    display_name: str
    oidc_subject: str
    oidc_provider_id: str
    last_login_at: datetime | None
    created_at: datetime
    deactivated_at: datetime | None = None


class UsersAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """Users."""

    users: list[UserView]


class RuntimeConfig(Struct, frozen=True, kw_only=True):
    """Settings in force, by variable; no secrets."""

    runtime_config: dict[str, str]
