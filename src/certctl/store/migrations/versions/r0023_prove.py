"""Agents answer challenges: a kind of step for it, and what they are to answer.

Expand only: one more word in a CHECK, one table. The release before gives such steps to nobody.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_BEFORE = ("approve", "prepare", "issue", "record", "deploy", "verify", "plan", "revoke", "publish")
_AFTER = ("approve", "prepare", "prove", "issue", "record", "deploy", "verify", "plan", "revoke", "publish")
_INDEXES = (
    ("ix_steps_leased", ["tenant_id", "lease_until"], "status = 'leased'"),
    ("ix_steps_ready", ["tenant_id", "agent_id", "run_at"], "status = 'ready'"),
    ("ix_steps_tenant_id_job_id", ["tenant_id", "job_id"], ""),
)


def _kinds(words: tuple[str, ...]) -> str:
    return f"kind IN ({', '.join(repr(word) for word in words)})"


def _allow(words: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        _copy(words)
        return
    op.drop_constraint(op.f("ck_steps_kind_is_known"), "steps", type_="check")
    # judged for what is written from now on; looking at all rows then needs no lock that keeps writers out
    op.execute(f"ALTER TABLE steps ADD CONSTRAINT ck_steps_kind_is_known CHECK ({_kinds(words)}) NOT VALID")
    op.execute("ALTER TABLE steps VALIDATE CONSTRAINT ck_steps_kind_is_known")


def _copy(words: tuple[str, ...]) -> None:
    """SQLite changes no CHECK: the table is made anew; its partial indexes are not copied."""
    for name, _, _ in _INDEXES:
        op.drop_index(name, "steps")
    with op.batch_alter_table("steps", recreate="always") as batch:
        batch.drop_constraint(op.f("ck_steps_kind_is_known"), type_="check")
        batch.create_check_constraint(op.f("ck_steps_kind_is_known"), sa.text(_kinds(words)))
    for name, columns, where in _INDEXES:
        op.create_index(name, "steps", columns, sqlite_where=sa.text(where) if where else None)


def upgrade() -> None:
    """One more kind of step, one table."""
    _allow(_AFTER)
    op.create_table(
        "host_answers",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("job_id", sa.String(140), nullable=False),
        sa.Column("token", sa.String(512), nullable=False),
        sa.Column("agent_id", sa.String(140), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("key_authorization", sa.Text(), server_default="", nullable=False),
        sa.Column("webroot", sa.Text(), server_default="", nullable=False),
        sa.Column("port", sa.Integer(), server_default="0", nullable=False),
        sa.Column("shown_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "token", name="pk_host_answers"),
    )


def downgrade() -> None:
    """What agents were to answer is lost: its orders end without proof."""
    op.drop_table("host_answers")
    op.execute("DELETE FROM steps WHERE kind = 'prove'")
    _allow(_BEFORE)
