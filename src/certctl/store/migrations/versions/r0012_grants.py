"""Roles that operators make, grants, and the value before a key's rotation.

Expand only: the release before reads and writes api_keys as it did, and knows nothing of the new tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_SCOPES = "scope_type IN ('global', 'profile', 'issuer', 'team')"


def upgrade() -> None:
    """Three tables, two columns."""
    op.add_column("api_keys", sa.Column("previous_hash", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_api_keys_previous_hash", "api_keys", ["previous_hash"], unique=True)
    op.create_table(
        "roles",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_roles"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_roles_tenant_id_name"),
    )
    op.create_table(
        "role_permissions",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("role_id", sa.String(length=140), nullable=False),
        sa.Column("permission", sa.String(length=140), nullable=False),
        sa.Column("scope_type", sa.String(length=140), nullable=False),
        sa.Column("scope_id", sa.String(length=140), server_default="", nullable=False),
        sa.CheckConstraint(_SCOPES, name="ck_role_permissions_scope_type_is_known"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "role_id", "permission", "scope_type", "scope_id", name="pk_role_permissions"
        ),
    )
    op.create_table(
        "actor_roles",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("actor_id", sa.String(length=140), nullable=False),
        sa.Column("actor_type", sa.String(length=140), nullable=False),
        sa.Column("role_id", sa.String(length=140), nullable=False),
        sa.Column("scope_type", sa.String(length=140), nullable=False),
        sa.Column("scope_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("granted_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(_SCOPES, name="ck_actor_roles_scope_type_is_known"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_actor_roles"),
        sa.UniqueConstraint(
            "tenant_id",
            "actor_id",
            "actor_type",
            "role_id",
            "scope_type",
            "scope_id",
            name="uq_actor_roles_grant",
        ),
    )
    op.create_index("ix_actor_roles_tenant_id_role_id", "actor_roles", ["tenant_id", "role_id"], unique=False)


def downgrade() -> None:
    """Roles that operators made and grants are lost; keys keep the roles they were made with."""
    op.drop_table("actor_roles")
    op.drop_table("role_permissions")
    op.drop_table("roles")
    op.drop_index("ix_api_keys_previous_hash", "api_keys")
    op.drop_column("api_keys", "previous_until")
    op.drop_column("api_keys", "previous_hash")
