"""What an ACME server remembers (RFC 8555 7.1): accounts, orders, authorizations, challenges, external accounts.

Statuses are RFC words; the machines below are what may follow what, enforced by guarded updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct

# what a dry run at another CA puts to prove names is kept under an id that begins so
DRY_RUN = "dry-run"
TRUST_AUTHENTICATED, CHALLENGE = "trust_authenticated", "challenge"
HTTP_01, DNS_01, TLS_ALPN_01 = "http-01", "dns-01", "tls-alpn-01"
CHALLENGE_TYPES = (HTTP_01, DNS_01, TLS_ALPN_01)


class AccountStatus(StrEnum):
    """RFC 8555 7.1.2."""

    VALID = "valid"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


class OrderState(StrEnum):
    """RFC 8555 7.1.3."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class AuthorizationStatus(StrEnum):
    """RFC 8555 7.1.4."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"


class ChallengeStatus(StrEnum):
    """RFC 8555 8."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


_A, _O, _Z, _C = AccountStatus, OrderState, AuthorizationStatus, ChallengeStatus

MACHINES: Mapping[str, Mapping[Any, frozenset[Any]]] = {
    "account": {
        _A.VALID: frozenset({_A.DEACTIVATED, _A.REVOKED}),
        _A.DEACTIVATED: frozenset(),
        _A.REVOKED: frozenset(),
    },
    "order": {
        _O.PENDING: frozenset({_O.READY, _O.INVALID}),
        _O.READY: frozenset({_O.PROCESSING, _O.INVALID}),
        _O.PROCESSING: frozenset({_O.VALID, _O.INVALID}),
        _O.VALID: frozenset(),
        _O.INVALID: frozenset(),
    },
    "authorization": {
        _Z.PENDING: frozenset({_Z.VALID, _Z.INVALID, _Z.DEACTIVATED, _Z.EXPIRED}),
        _Z.VALID: frozenset({_Z.DEACTIVATED, _Z.EXPIRED}),
        _Z.INVALID: frozenset(),
        _Z.DEACTIVATED: frozenset(),
        _Z.EXPIRED: frozenset(),
    },
    "challenge": {
        _C.PENDING: frozenset({_C.PROCESSING, _C.VALID}),
        _C.PROCESSING: frozenset({_C.VALID, _C.INVALID}),
        _C.VALID: frozenset(),
        _C.INVALID: frozenset(),
    },
}


class AcmeAccount(Struct, frozen=True, kw_only=True):
    """One account of one profile. `jwk` is its key in canonical JSON, `external_key_id` what it was bound with."""

    tenant_id: str
    id: str
    profile_id: str
    jwk: str
    thumbprint: str
    status: AccountStatus
    contact: list[str]
    terms_agreed: bool
    external_key_id: str
    created_at: datetime
    updated_at: datetime


class AcmeOrder(Struct, frozen=True, kw_only=True):
    """One order. `names` are canonical with their kind (`dns:shop.example`), `names_key` is the same for the same names
    in any order; `error` is a problem document.
    """

    tenant_id: str
    id: str
    account_id: str
    profile_id: str
    status: OrderState
    names: list[str]
    names_key: str
    not_before: datetime | None
    not_after: datetime | None
    replaces: str
    profile: str
    error: dict[str, Any] | None
    expires_at: datetime
    certificate_id: str
    job_id: str
    version_id: str
    created_at: datetime
    updated_at: datetime


class AcmeAuthorization(Struct, frozen=True, kw_only=True):
    """That an account may order for a name: `name` is the base name of a wildcard."""

    tenant_id: str
    id: str
    order_id: str
    account_id: str
    name: str
    wildcard: bool
    status: AuthorizationStatus
    expires_at: datetime
    validated_at: datetime | None
    created_at: datetime


class AcmeChallenge(Struct, frozen=True, kw_only=True):
    """One way to prove control. While `processing` it is a piece of work that validators lease."""

    tenant_id: str
    id: str
    authorization_id: str
    account_id: str
    type: str
    token: str
    status: ChallengeStatus
    validated_at: datetime | None
    error: dict[str, Any] | None
    attempts: int
    run_at: datetime
    lease_owner: str
    lease_until: datetime | None
    created_at: datetime


class ExternalKey(Struct, frozen=True, kw_only=True):
    """A key that binds ACME accounts to somebody we know (RFC 8555 7.3.4); its id is the `kid`, its secret sealed.

    `allowed_names` are domains (`corp.example` with all below it), exact names (`=host.corp.example`) or networks;
    empty means whatever the profile allows. Reusable ones bind any number of accounts.
    """

    tenant_id: str
    id: str
    name: str
    profile_id: str
    sealed: bytes
    owner_id: str
    team_id: str
    allowed_names: list[str]
    reusable: bool
    expires_at: datetime | None
    created_by: str
    created_at: datetime
    bound_account_id: str
    bound_at: datetime | None
    revoked_at: datetime | None


class AcmeRules(Struct, frozen=True, kw_only=True):
    """How the ACME server is set up; durations as timedelta, rates as counts, 0 for no limit."""

    enabled: bool = False
    external_url: str = ""
    host_names: tuple[str, ...] = ("localhost", "127.0.0.1")
    default_auth_mode: str = TRUST_AUTHENTICATED
    default_profile_id: str = ""
    eab_required: bool = False
    nonce_ttl: timedelta = timedelta(minutes=5)
    order_ttl: timedelta = timedelta(hours=24)
    authorization_ttl: timedelta = timedelta(hours=24)
    terms_of_service: str = ""
    website: str = ""
    cors_origins: tuple[str, ...] = ()
    caa_identities: tuple[str, ...] = ()
    ari_enabled: bool = True
    ari_poll_interval: timedelta = timedelta(hours=6)
    ari_explanation_url: str = ""
    orders_per_hour: int = 100
    concurrent_orders: int = 5
    key_changes_per_hour: int = 5
    responds_per_hour: int = 60
    http01_concurrency: int = 10
    dns01_concurrency: int = 10
    tlsalpn01_concurrency: int = 10
    resolver: str = ""
    http_port: int = 80
    tls_port: int = 443
    allowed_networks: tuple[str, ...] = ()
    gc_interval: timedelta = timedelta(minutes=1)
