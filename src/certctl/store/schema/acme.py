"""The ACME server: accounts, orders, authorizations, challenges, external keys."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from certctl.core import acme
from certctl.store.schema import columns as c

acme_accounts = c.table(
    "acme_accounts",
    c.reference("profile_id"),
    c.words("jwk"),
    c.words("thumbprint"),
    c.words("status"),
    c.json("contact"),
    c.flag("terms_agreed"),
    c.reference("external_key_id"),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "profile_id", "thumbprint"),
    Index(None, "tenant_id", "created_at", "id"),
    c.one_of("status", acme.AccountStatus),
)

acme_orders = c.table(
    "acme_orders",
    c.reference("account_id"),
    c.reference("profile_id"),
    c.words("status"),
    c.json("names"),
    c.words("names_key"),
    c.time("not_before"),
    c.time("not_after"),
    c.words("replaces"),
    c.words("profile"),
    c.json("error", nullable=True),
    c.time("expires_at", nullable=False),
    c.reference("certificate_id"),
    c.reference("job_id"),
    c.reference("version_id"),
    c.born(),
    c.changed(),
    Index(None, "tenant_id", "account_id", "created_at", "id"),
    Index(None, "tenant_id", "account_id", "names_key"),
    Index(None, "tenant_id", "status", "expires_at"),
    Index(None, "tenant_id", "version_id"),
    # RFC 9773 5: a certificate is replaced once; an order that came to nothing gives it free
    Index(
        "ux_acme_orders_replaces",
        "tenant_id",
        "replaces",
        unique=True,
        sqlite_where=text("replaces <> '' AND status <> 'invalid'"),
        postgresql_where=text("replaces <> '' AND status <> 'invalid'"),
    ),
    # one order, one issuing job
    Index(
        "ux_acme_orders_job",
        "tenant_id",
        "job_id",
        unique=True,
        sqlite_where=text("job_id <> ''"),
        postgresql_where=text("job_id <> ''"),
    ),
    c.one_of("status", acme.OrderState),
)

acme_authorizations = c.table(
    "acme_authorizations",
    c.reference("order_id"),
    c.reference("account_id"),
    c.words("name"),
    c.flag("wildcard"),
    c.words("status"),
    c.time("expires_at", nullable=False),
    c.time("validated_at"),
    c.born(),
    Index(None, "tenant_id", "order_id"),
    Index(None, "tenant_id", "account_id", "name"),
    Index(None, "tenant_id", "status", "expires_at"),
    c.one_of("status", acme.AuthorizationStatus),
)

acme_challenges = c.table(
    "acme_challenges",
    c.reference("authorization_id"),
    c.reference("account_id"),
    c.words("type"),
    c.words("token"),
    c.words("status"),
    c.time("validated_at"),
    c.json("error", nullable=True),
    c.count("attempts"),
    c.time("run_at", nullable=False),
    c.words("lease_owner"),
    c.time("lease_until"),
    c.born(),
    Index(None, "tenant_id", "authorization_id"),
    Index(None, "tenant_id", "status", "run_at"),
    c.one_of("status", acme.ChallengeStatus),
)

acme_external_keys = c.table(
    "acme_external_keys",
    c.words("name"),
    c.reference("profile_id"),
    Column("sealed", LargeBinary, nullable=False),
    c.reference("owner_id"),
    c.reference("team_id"),
    c.json("allowed_names"),
    c.flag("reusable"),
    c.time("expires_at"),
    c.words("created_by"),
    c.born(),
    c.reference("bound_account_id"),
    c.time("bound_at"),
    c.time("revoked_at"),
    UniqueConstraint("tenant_id", "name"),
)

# nonces that were used: a nonce proves by itself that we made it and when (docs/adr, ACME nonces)
acme_spent_nonces = Table(
    "acme_spent_nonces",
    c.metadata,
    c.key("tenant_id"),
    c.key("nonce"),
    c.time("expires_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "nonce"),
    Index(None, "tenant_id", "expires_at"),
)
