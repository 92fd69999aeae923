"""Keys of external accounts, by which ACME clients are known (RFC 8555 7.3.4). Secrets are shown once."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.client.models.bounds import Id, Text


class ExternalKeyView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key without its secret; `id` is what clients call the key identifier (kid)."""

    id: str
    name: str
    profile_id: str
    allowed_names: list[str]
    reusable: bool
    created_by: str
    created_at: datetime
    owner_id: str = ""
    team_id: str = ""
    expires_at: datetime | None = None
    bound_account_id: str = ""
    bound_at: datetime | None = None
    revoked_at: datetime | None = None


class ExternalKeyWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key to make: under which profile, for whom, for which names, until when.

    `allowed_names` are domains with all below them, exact names behind `=`, or networks; none: whatever the profile
    allows. Unless `reusable`, one account is bound with it.
    """

    name: Text
    profile_id: Id
    owner_id: Id = ""
    team_id: Id = ""
    allowed_names: list[Text] = []
    reusable: bool = False
    expires_at: datetime | None = None


class NewExternalKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key just made; `hmac_key` (base64url) is shown this once."""

    id: str
    name: str
    profile_id: str
    hmac_key: str
    directory_path: str
    created_at: datetime
    expires_at: datetime | None = None
