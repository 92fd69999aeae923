"""Who is calling, API keys and the first one (bootstrap). Key values are shown once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, LongText, Seconds, Text
from certctl.client.models.page import Paged


class EffectivePermission(Struct, frozen=True, kw_only=True):
    """One permission of the caller, and how far it reaches.

    Limits that hold together (a team, and within it a profile) read `scope_type` combined, and stand in `limits`.
    """

    permission: str
    scope_type: str = "global"
    scope_id: str = ""
    limits: dict[str, list[str]] | None = None


class PermissionView(Struct, frozen=True, kw_only=True):
    """One permission of the catalogue, and by what a grant of it may be limited (empty: not at all)."""

    id: str
    name: str
    namespace: str
    limited_by: list[str]


class PermissionsAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """The catalogue."""

    permissions: list[PermissionView]


class RoleView(Struct, frozen=True, kw_only=True):
    """A role; built-in ones never change."""

    id: str
    tenant_id: str
    name: str
    description: str
    built_in: bool
    created_at: datetime
    updated_at: datetime
    row_version: int = 0


class RolesAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """All roles."""

    roles: list[RoleView]


class HeldPermission(Struct, frozen=True, kw_only=True):
    """One permission that a role holds, and how far it reaches there."""

    role_id: str
    permission_id: str
    permission: str
    scope_type: str
    scope_id: str


class RoleAnswer(Struct, frozen=True, kw_only=True):
    """A role and what it holds."""

    role: RoleView
    permissions: list[HeldPermission]
    row_version: int = 0


class RoleWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role to make or change; what is absent stays."""

    name: Text | None = None
    description: LongText | None = None


class PermissionWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A permission to put into a role; `scope_type` is global, team, profile or issuer."""

    permission: Text
    scope_type: Text = "global"
    scope_id: Id | None = None


class GrantWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role to give; without `expires_at` it lasts."""

    role_id: Id
    scope_type: Text = "global"
    scope_id: Id | None = None
    expires_at: datetime | None = None


class GrantView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role that was given."""

    role_id: str
    scope_type: str
    scope_id: str
    granted_by: str
    created_at: datetime
    expires_at: datetime | None = None


class RotateBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long the old value stays good beside the new one; a new end, when there is to be another."""

    overlap_seconds: Seconds = 0
    expires_at: datetime | None = None


class RemovedAnswer(Struct, frozen=True, kw_only=True):
    """How many were removed."""

    removed: int


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
    """One API key without its value; `person` is whose it is and `shown_to` who got its value, when not its maker."""

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
    previous_until: datetime | None = None
    grants: list[GrantView] = []
    person: str = ""
    shown_to: str = ""
    row_version: int = 0


class KeysAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """API keys."""

    keys: list[KeyView]


class KeyWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key to make. Lists of None mean no limit of that kind; nobody gives more than they have.

    `agent_id` makes it the key of one agent of the reference product: role r-agent alone, good for that agent's calls.
    `person` makes it somebody else's, who rotates it before it counts as theirs alone.
    """

    name: Text
    role_ids: list[Id]
    expires_at: datetime | None = None
    teams: list[Id] | None = None
    profiles: list[Id] | None = None
    issuers: list[Id] | None = None
    agent_id: Id = ""
    person: Text = ""


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
    previous_until: datetime | None = None
