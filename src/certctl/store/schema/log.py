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
    # which channel it goes to; empty until it is routed
    c.reference("channel_id"),
    # what it is about, the same in the row that says that it is over (`action` is `resolve`)
    c.reference("incident"),
    c.words("action"),
    c.words("subject"),
    c.words("html"),
    c.time("read_at"),
    c.time("queued_at"),
    # who sends it this moment; its lease ends at `next_retry_at`
    c.words("lease_owner"),
    c.born(),
    UniqueConstraint("tenant_id", "dedup_key"),
    Index(None, "tenant_id", "status", "created_at"),
    Index(None, "tenant_id", "status", "next_retry_at"),
    Index(None, "tenant_id", "incident", "created_at"),
    Index(None, "tenant_id", "certificate_id", "created_at"),
    Index(None, "tenant_id", "created_at"),
    c.one_of("status", ("pending", "sent", "failed", "dead", "read", "skipped")),
)

notification_channels = c.table(
    "notification_channels",
    c.words("name"),
    c.words("type"),
    c.json("config"),
    # the names of those that are set; their values are in sealed_config
    c.json("secrets"),
    Column("sealed_config", LargeBinary),
    c.words("address"),
    c.flag("enabled"),
    c.words("min_severity"),
    c.time("last_tested_at"),
    c.words("test_status"),
    c.words("source"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
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
    # the first so many events are gone: pruned, block by block
    Column("pruned_size", BigInteger, nullable=False, server_default="0"),
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

# hashes of leaves whose events were pruned, 256 together in a row
audit_blocks = Table(
    "audit_blocks",
    c.metadata,
    c.key("tenant_id"),
    Column("position", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "position"),
)

# who set a break-glass password for whom, of events that were pruned: approvals go by it
breakglass_setters = Table(
    "breakglass_setters",
    c.metadata,
    c.key("tenant_id"),
    c.key("name"),
    c.key("setter"),
    c.time("first_set_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "name", "setter"),
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

# how far each receiver of the log off the box has come
audit_receivers = Table(
    "audit_receivers",
    c.metadata,
    c.key("tenant_id"),
    c.key("name"),
    Column("transaction_id", BigInteger, nullable=False, server_default="0"),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("sent", BigInteger, nullable=False, server_default="0"),
    # the size of the last signed head that is there
    Column("head_size", BigInteger, nullable=False, server_default="0"),
    c.time("sent_at"),
    c.count("failures"),
    c.words("error"),
    c.time("next_try_at"),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "name"),
)
