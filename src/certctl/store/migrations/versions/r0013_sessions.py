"""Browser sessions, users, break-glass credentials, shared rate limits.

Expand only: four new tables, of which the release before knows nothing.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _reference(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), server_default="", nullable=False)


def _time(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Four tables."""
    op.create_table(
        "sessions",
        _key("tenant_id"),
        _key("id"),
        _text("token_hash"),
        _text("csrf_hash"),
        _key("actor_id"),
        _key("actor_type"),
        _text("method"),
        _reference("key_id"),
        _text("ip_address"),
        _text("user_agent"),
        _time("created_at", nullable=False),
        _time("last_seen_at", nullable=False),
        _time("idle_expires_at", nullable=False),
        _time("absolute_expires_at", nullable=False),
        _time("revoked_at"),
        _text("revoked_reason"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_token_hash", "sessions", ["token_hash"], unique=True)
    op.create_index("ix_sessions_tenant_id_actor_id_actor_type", "sessions", ["tenant_id", "actor_id", "actor_type"])
    op.create_index("ix_sessions_tenant_id_idle_expires_at", "sessions", ["tenant_id", "idle_expires_at"])
    op.create_table(
        "users",
        _key("tenant_id"),
        _key("id"),
        _text("email"),
        _text("display_name"),
        _text("oidc_subject"),
        _reference("oidc_provider_id"),
        _time("last_login_at"),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        _time("deactivated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_users"),
        sa.UniqueConstraint(
            "tenant_id", "oidc_provider_id", "oidc_subject", name="uq_users_tenant_id_oidc_provider_id_oidc_subject"
        ),
    )
    op.create_table(
        "breakglass_credentials",
        _key("tenant_id"),
        _key("id"),
        _text("password_hash"),
        _text("created_by"),
        _time("created_at", nullable=False),
        _time("last_password_change_at", nullable=False),
        sa.Column("failure_count", sa.Integer(), server_default="0", nullable=False),
        _time("last_failure_at"),
        _time("locked_until"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_breakglass_credentials"),
    )
    op.create_table(
        "rate_buckets",
        _key("tenant_id"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        _time("updated_at", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_rate_buckets"),
    )
    op.create_index("ix_rate_buckets_tenant_id_updated_at", "rate_buckets", ["tenant_id", "updated_at"])


def downgrade() -> None:
    """Everybody signs in anew; users and break-glass passwords are lost."""
    for table in ("rate_buckets", "breakglass_credentials", "users", "sessions"):
        op.drop_table(table)
