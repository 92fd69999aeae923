"""Health checks of endpoints, and their history.

Expand only: two tables.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_CHECKS, _HISTORY = "endpoint_health_checks", "endpoint_health_history"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _reference(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), server_default=None if key else "", nullable=False)


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=str(default), nullable=False)


def _time(name: str, *, nullable: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def upgrade() -> None:
    """Two tables with their indexes."""
    op.create_table(
        _CHECKS,
        _reference("tenant_id", key=True),
        _reference("id", key=True),
        *(_text(name) for name in ("endpoint", "server_name", "protocol", "ca_pem")),
        _reference("certificate_id"),
        _text("source"),
        sa.Column("follows", sa.String(length=140)),
        *(_text(name) for name in ("expected_fingerprint", "observed_fingerprint")),
        *(_text(name) for name in ("status", "failure_kind", "failure_reason")),
        *(_number(name) for name in ("consecutive_failures", "response_time_ms")),
        *(_text(name) for name in ("tls_version", "cipher_suite", "cert_subject", "cert_issuer")),
        _time("cert_expiry"),
        _text("trusted_by"),
        *(_time(f"last_{name}_at") for name in ("checked", "success", "failure", "transition")),
        _number("degraded_threshold", 2),
        _number("down_threshold", 5),
        _number("check_interval_seconds", 300),
        _flag("enabled"),
        _flag("acknowledged"),
        _text("acknowledged_by"),
        _time("acknowledged_at"),
        _reference("incident"),
        _time("next_check_at"),
        _text("lease_owner"),
        _reference("run_id"),
        _time("run_began_at"),
        _number("row_version", 1),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=f"pk_{_CHECKS}"),
        sa.UniqueConstraint("tenant_id", "follows", name=f"uq_{_CHECKS}_tenant_id_follows"),
        sa.CheckConstraint(
            "status IN ('unknown', 'healthy', 'degraded', 'down', 'cert_mismatch')",
            name=op.f(f"ck_{_CHECKS}_status_is_known"),
        ),
        sa.CheckConstraint("protocol IN ('tls', 'smtp', 'imap', 'pop3')", name=op.f(f"ck_{_CHECKS}_protocol_is_known")),
        sa.CheckConstraint("source IN ('manual', 'deployment')", name=op.f(f"ck_{_CHECKS}_source_is_known")),
    )
    for columns in (("next_check_at",), ("status", "endpoint"), ("endpoint",), ("certificate_id",)):
        op.create_index(f"ix_{_CHECKS}_tenant_id_{'_'.join(columns)}", _CHECKS, ["tenant_id", *columns])
    op.create_table(
        _HISTORY,
        _reference("tenant_id", key=True),
        _reference("id", key=True),
        _reference("health_check_id"),
        *(_text(name) for name in ("status", "failure_kind", "failure_reason", "fingerprint")),
        _number("response_time_ms"),
        _number("looks", 1),
        _time("checked_at", nullable=False),
        _time("last_checked_at", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=f"pk_{_HISTORY}"),
    )
    for columns in (("health_check_id", "checked_at"), ("last_checked_at",)):
        op.create_index(f"ix_{_HISTORY}_tenant_id_{'_'.join(columns)}", _HISTORY, ["tenant_id", *columns])


def downgrade() -> None:
    """What was watched and seen is lost; those that follow deployments come back with the next of them."""
    op.drop_table(_HISTORY)
    op.drop_table(_CHECKS)
