"""What keeps replicas in step: idempotency keys, ticks, counters."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from certctl.store.schema import columns as c

idempotency_keys = Table(
    "idempotency_keys",
    c.metadata,
    c.key("tenant_id"),
    Column("caller", String(300), nullable=False),
    Column("key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    c.words("phase"),
    c.words("token"),
    c.time("lease_until", nullable=False),
    c.words("subject_type"),
    c.reference("subject_id"),
    Column("answer", LargeBinary),
    c.born(),
    c.time("expires_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "caller", "key"),
    Index(None, "tenant_id", "expires_at"),
    c.one_of("phase", ("claimed", "acted", "answered")),
)

ticks = Table(
    "ticks",
    c.metadata,
    c.key("tenant_id"),
    c.key("name"),
    c.words("lease_owner"),
    c.time("lease_until"),
    c.time("next_run_at"),
    c.time("last_run_at"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("tenant_id", "name"),
)

# Counters of the whole fleet: each transaction adds rows here that nobody waits for, a tick adds them up below.
counter_deltas = Table(
    "counter_deltas",
    c.metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    c.key("tenant_id"),
    c.words("name"),
    c.words("labels"),
    Column("amount", Float, nullable=False),
)

counter_totals = Table(
    "counter_totals",
    c.metadata,
    c.key("tenant_id"),
    Column("name", String(140), nullable=False),
    Column("labels", String(500), nullable=False),
    Column("amount", Float, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name", "labels"),
)
