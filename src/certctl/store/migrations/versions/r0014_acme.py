"""The ACME server: accounts, orders, authorizations, challenges, keys of external accounts, spent nonces.

Expand only: six new tables, of which the release before knows nothing, and a profile's issuer for ACME.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_OPEN = sa.text("replaces <> '' AND status <> 'invalid'")
_WITH_JOB = sa.text("job_id <> ''")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _reference(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), server_default="", nullable=False)


def _time(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _JSON, nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _one_of(table: str, *words: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"status IN ({listed})", name=f"ck_{table}_status_is_known")


def _table(name: str, *items: Any) -> None:
    primary = sa.PrimaryKeyConstraint("tenant_id", "id", name=f"pk_{name}")
    op.create_table(name, _key("tenant_id"), _key("id"), *items, primary)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_tenant_id_{'_'.join(columns)}", table, ["tenant_id", *columns])


def upgrade() -> None:
    """Six tables and a column."""
    op.add_column("certificate_profiles", _reference("acme_issuer_id"))
    _accounts_and_orders()
    _authorizations()
    _table(
        "acme_external_keys",
        _text("name"),
        _reference("profile_id"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _reference("owner_id"),
        _reference("team_id"),
        _json("allowed_names"),
        _flag("reusable"),
        _time("expires_at"),
        _text("created_by"),
        _time("created_at", nullable=False),
        _reference("bound_account_id"),
        _time("bound_at"),
        _time("revoked_at"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_acme_external_keys_tenant_id_name"),
    )
    op.create_table(
        "acme_spent_nonces",
        _key("tenant_id"),
        _key("nonce"),
        _time("expires_at", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "nonce", name="pk_acme_spent_nonces"),
    )
    _index("acme_spent_nonces", "expires_at")


def _accounts_and_orders() -> None:
    _table(
        "acme_accounts",
        _reference("profile_id"),
        _text("jwk"),
        _text("thumbprint"),
        _text("status"),
        _json("contact"),
        _flag("terms_agreed"),
        _reference("external_key_id"),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.UniqueConstraint(
            "tenant_id", "profile_id", "thumbprint", name="uq_acme_accounts_tenant_id_profile_id_thumbprint"
        ),
        _one_of("acme_accounts", "valid", "deactivated", "revoked"),
    )
    _index("acme_accounts", "created_at", "id")
    _table(
        "acme_orders",
        _reference("account_id"),
        _reference("profile_id"),
        _text("status"),
        _json("names"),
        _text("names_key"),
        _time("not_before"),
        _time("not_after"),
        _text("replaces"),
        _text("profile"),
        _json("error", nullable=True),
        _time("expires_at", nullable=False),
        _reference("certificate_id"),
        _reference("job_id"),
        _reference("version_id"),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        _one_of("acme_orders", "pending", "ready", "processing", "valid", "invalid"),
    )
    _index("acme_orders", "account_id", "created_at", "id")
    _index("acme_orders", "account_id", "names_key")
    _index("acme_orders", "status", "expires_at")
    _index("acme_orders", "version_id")
    for name, column, where in (
        ("ux_acme_orders_replaces", "replaces", _OPEN),
        ("ux_acme_orders_job", "job_id", _WITH_JOB),
    ):
        op.create_index(
            name, "acme_orders", ["tenant_id", column], unique=True, sqlite_where=where, postgresql_where=where
        )


def _authorizations() -> None:
    _table(
        "acme_authorizations",
        _reference("order_id"),
        _reference("account_id"),
        _text("name"),
        _flag("wildcard"),
        _text("status"),
        _time("expires_at", nullable=False),
        _time("validated_at"),
        _time("created_at", nullable=False),
        _one_of("acme_authorizations", "pending", "valid", "invalid", "deactivated", "expired"),
    )
    _index("acme_authorizations", "order_id")
    _index("acme_authorizations", "account_id", "name")
    _index("acme_authorizations", "status", "expires_at")
    _table(
        "acme_challenges",
        _reference("authorization_id"),
        _reference("account_id"),
        _text("type"),
        _text("token"),
        _text("status"),
        _time("validated_at"),
        _json("error", nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _time("run_at", nullable=False),
        _text("lease_owner"),
        _time("lease_until"),
        _time("created_at", nullable=False),
        _one_of("acme_challenges", "pending", "processing", "valid", "invalid"),
    )
    _index("acme_challenges", "authorization_id")
    _index("acme_challenges", "status", "run_at")


def downgrade() -> None:
    """Clients register anew; what was issued stays."""
    for table in (
        "acme_spent_nonces",
        "acme_external_keys",
        "acme_challenges",
        "acme_authorizations",
        "acme_orders",
        "acme_accounts",
    ):
        op.drop_table(table)
    op.drop_column("certificate_profiles", "acme_issuer_id")
