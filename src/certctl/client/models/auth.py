"""Who is calling, API keys and the first one (bootstrap). Key values are shown once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Text


class EffectivePermission(Struct, frozen=True, kw_only=True):
    """One permission of the caller, and how far it reaches."""

    permission: str
    scope_type: str = "global"
    scope_id: str = ""


class MeView(Struct, frozen=True, kw_only=True):
    """The caller."""

    actor_id: str
    actor_type: str
    tenant_id: str
    admin: bool
    roles: list[str]
    effective_permissions: list[EffectivePermission]


class CheckView(Struct, frozen=True, kw_only=True):
    """The caller, in the reference product's older form."""

    status: str
    user: str
    admin: bool
    actor_id: str
    actor_type: str
    tenant_id: str
    roles: list[str]
    effective_permissions: list[EffectivePermission]
    admin_via_role: bool


class AuthInfo(Struct, frozen=True, kw_only=True):
    """How to sign in here."""

    auth_type: str
    required: bool


class BootstrapState(Struct, frozen=True, kw_only=True):
    """Whether the first key may still be made."""

    available: bool


class BootstrapBody(Struct, frozen=True, kw_only=True):
    """The token that the operator set, and a name for the first key."""

    token: Annotated[str, Meta(max_length=1024)]
    actor_name: Text = "admin"


class BootstrapAnswer(Struct, frozen=True, kw_only=True):
    """The first key; `key_value` is shown this once."""

    actor_id: str
    api_key_id: str
    key_value: str
    created_at: datetime
    message: str


class KeyView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One API key without its value."""

    actor_id: str
    actor_type: str
    tenant_id: str
    role_ids: list[str]
    id: str
    name: str
    prefix: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    teams: list[str] | None = None
    profiles: list[str] | None = None
    issuers: list[str] | None = None
    agent_id: str = ""


class KeysAnswer(Struct, frozen=True, kw_only=True):
    """All keys."""

    keys: list[KeyView]


class KeyWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key to make. Lists of None mean no limit of that kind; nobody gives more than they have.

    `agent_id` makes it the key of one agent of the reference product: role r-agent alone, good for that agent's calls.
    """

    name: Text
    role_ids: list[Id]
    expires_at: datetime | None = None
    teams: list[Id] | None = None
    profiles: list[Id] | None = None
    issuers: list[Id] | None = None
    agent_id: Id = ""


class NewKeyAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key just made; `key_value` is shown this once."""

    id: str
    name: str
    key_value: str
    prefix: str
    role_ids: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    agent_id: str = ""
