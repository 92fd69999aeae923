"""What happened: the outbox, the event log, and its seal."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from certctl.store.schema import columns as c

notifications = c.table(
    "notification_events",
    c.words("type"),
    c.reference("certificate_id"),
    c.words("channel"),
    c.words("recipient"),
    c.words("severity"),
    c.words("message"),
    c.words("status"),
    c.words("dedup_key"),
    c.count("retry_count"),
    c.time("next_retry_at"),
    c.words("last_error"),
    c.time("sent_at"),
    c.born(),
    UniqueConstraint("tenant_id", "dedup_key"),
    Index(None, "tenant_id", "status", "created_at"),
    c.one_of("status", ("pending", "sent", "failed", "dead", "read", "skipped")),
)

events = Table(
    "audit_events",
    c.metadata,
    # followers read below the oldest running transaction, never by the largest seq seen
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    c.key("tenant_id"),
    c.key("id"),
    Column("transaction_id", BigInteger, nullable=False, server_default="0"),
    c.words("type"),
    c.words("subject_type"),
    c.reference("subject_id"),
    c.words("actor"),
    c.words("actor_type"),
    c.words("request_id"),
    c.words("address"),
    c.json("details"),
    c.born(),
    UniqueConstraint("tenant_id", "id"),
    # followers read in this order
    Index(None, "tenant_id", "transaction_id", "seq"),
    Index(None, "tenant_id", "subject_id", "seq"),
    Index(None, "tenant_id", "type", "seq"),
)

# the audit seal: one Merkle tree over the events in the order of their commits (docs/adr/0026-audit-seal.md)
audit_tree = Table(
    "audit_tree",
    c.metadata,
    c.key("tenant_id"),
    c.reference("key_ref"),
    c.words("origin"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    # the place in the log behind which nothing is sealed yet
    Column("transaction_id", BigInteger, nullable=False, server_default="0"),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("verified_size", BigInteger, nullable=False, server_default="0"),
    c.time("verified_at"),
    c.time("walked_at"),
    Column("broken_at", BigInteger, nullable=True),
    c.words("broken"),
    c.born(),
    PrimaryKeyConstraint("tenant_id"),
)

audit_leaves = Table(
    "audit_leaves",
    c.metadata,
    c.key("tenant_id"),
    Column("leaf_index", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "leaf_index"),
    UniqueConstraint("tenant_id", "seq"),
)

# roots of complete subtrees of 256, 65536, ... leaves: level 1, 2, ...
audit_nodes = Table(
    "audit_nodes",
    c.metadata,
    c.key("tenant_id"),
    Column("level", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "level", "position"),
)

audit_heads = Table(
    "audit_heads",
    c.metadata,
    c.key("tenant_id"),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    c.words("note"),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "size"),
)
