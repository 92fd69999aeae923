"""Our side of other people's CAs: accounts there, orders placed there, answers to challenges, what they suggest."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, PrimaryKeyConstraint, String, Table, UniqueConstraint

from certctl.store.schema import columns as c

ca_accounts = c.table(
    "ca_accounts",
    c.reference("issuer_id"),
    Column("directory_url", String(500), nullable=False),
    # empty until the CA has named it
    c.words("url"),
    Column("sealed", LargeBinary, nullable=False),
    # of a key change that is under way: which of the two the CA knows is found out by asking
    Column("sealed_next", LargeBinary),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "issuer_id", "directory_url"),
)

# which of our orders an order at a CA belongs to: never to two
ca_orders = Table(
    "ca_orders",
    c.metadata,
    c.key("tenant_id"),
    c.key("issuer_id"),
    Column("url", String(2000), nullable=False),
    c.key("order_id"),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "issuer_id", "url"),
    Index(None, "tenant_id", "order_id"),
)

# answers to challenges that were put for an order and have not been taken away yet
ca_proofs = Table(
    "ca_proofs",
    c.metadata,
    c.key("tenant_id"),
    c.key("order_id"),
    Column("token", String(512), nullable=False),
    c.key("issuer_id"),
    Column("name", String(255), nullable=False),
    c.words("key_authorization"),
    c.reference("job_id"),
    c.reference("agent_id"),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "order_id", "token"),
)

# each new order asked of a CA, written before it is asked, and what became of it
ca_asks = c.table(
    "ca_asks",
    c.reference("issuer_id"),
    c.reference("certificate_id"),
    c.reference("order_id"),
    Column("names_hash", String(64), nullable=False),
    c.words("names"),
    c.flag("exempt"),
    c.words("state"),
    c.words("detail"),
    c.time("asked_at", nullable=False),
    c.time("ended_at"),
    Index(None, "tenant_id", "issuer_id", "asked_at"),
    Index(None, "tenant_id", "issuer_id", "names_hash", "asked_at"),
    Index(None, "tenant_id", "order_id"),
    c.one_of("state", ("asking", "ordered", "issued", "refused", "declined", "lost", "absent")),
)

# under which registered domains those names lie, at which CA, where it counts by them
ca_ask_domains = Table(
    "ca_ask_domains",
    c.metadata,
    c.key("tenant_id"),
    c.key("ask_id"),
    Column("domain", String(255), nullable=False),
    Column("ca_host", String(255), nullable=False),
    c.time("asked_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "ask_id", "domain"),
    Index(None, "tenant_id", "ca_host", "domain", "asked_at"),
    Index(None, "tenant_id", "asked_at"),
)

# names for which no more orders are asked until somebody says so
ca_pauses = Table(
    "ca_pauses",
    c.metadata,
    c.key("tenant_id"),
    c.key("issuer_id"),
    Column("names_hash", String(64), nullable=False),
    c.reference("certificate_id"),
    c.words("names"),
    c.words("reason"),
    c.count("failures"),
    c.time("paused_at", nullable=False),
    c.time("resumed_at"),
    PrimaryKeyConstraint("tenant_id", "issuer_id", "names_hash"),
)

# answers of http-01, for whichever replica is asked
ca_answers = Table(
    "ca_answers",
    c.metadata,
    c.key("tenant_id"),
    Column("token", String(512), nullable=False),
    c.words("key_authorization"),
    c.time("expires_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "token"),
    Index(None, "tenant_id", "expires_at"),
)

# what agents answer to challenges for a job; `shown_by` is the run of the agent that said it does
host_answers = Table(
    "host_answers",
    c.metadata,
    c.key("tenant_id"),
    c.key("job_id"),
    Column("token", String(512), nullable=False),
    c.reference("agent_id"),
    c.words("type"),
    c.words("name"),
    c.words("key_authorization"),
    c.words("webroot"),
    c.count("port"),
    c.words("shown_by"),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "job_id", "token"),
)

# when a CA would like a version to be renewed (RFC 9773)
renewal_suggestions = Table(
    "renewal_suggestions",
    c.metadata,
    c.key("tenant_id"),
    c.key("version_id"),
    c.time("window_start"),
    c.time("window_end"),
    c.words("explanation_url"),
    c.words("error"),
    c.time("ask_again_at", nullable=False),
    c.changed(),
    PrimaryKeyConstraint("tenant_id", "version_id"),
    Index(None, "tenant_id", "ask_again_at"),
)
