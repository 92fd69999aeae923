"""Our own CAs: sealed keys, generations, responders, CRLs."""

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

ca_keys = c.table(
    "ca_keys",
    c.words("algorithm"),
    Column("spki_der", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    c.born(),
)

ca_certificates = c.table(
    "ca_certificates",
    c.reference("issuer_id"),
    c.reference("parent_id"),
    c.words("kind"),
    c.reference("key_ref"),
    c.words("key_algorithm"),
    c.words("state"),
    c.count("generation", 1),
    c.words("subject"),
    c.words("serial_number"),
    Column("certificate_der", LargeBinary, nullable=False),
    c.time("not_before", nullable=False),
    c.time("not_after", nullable=False),
    c.born(),
    c.words("name"),
    Column("metadata", c.Json, nullable=False, server_default="{}"),
    Column("path_length", Integer),
    c.time("updated_at"),
    UniqueConstraint("tenant_id", "issuer_id", "kind", "generation"),
    c.one_of("kind", ("root", "intermediate")),
    c.one_of("state", ("active", "retiring", "retired")),
)

ca_intents = c.table(
    "ca_intents",
    c.reference("issuer_id"),
    c.reference("parent_id"),
    c.reference("key_ref"),
    c.words("key_algorithm"),
    c.count("generation", 1),
    c.words("name"),
    c.json("metadata"),
    c.count("path_length"),
    c.words("serial_number"),
    Column("tbs_der", LargeBinary, nullable=False),
    c.words("created_by"),
    c.born(),
    c.time("answered_at"),
    UniqueConstraint("tenant_id", "issuer_id", "generation"),
    UniqueConstraint("tenant_id", "issuer_id", "name"),
)

ocsp_responders = c.table(
    "ocsp_responders",
    c.reference("ca_certificate_id"),
    c.reference("key_ref"),
    c.words("key_algorithm"),
    Column("certificate_der", LargeBinary, nullable=False),
    c.time("not_before", nullable=False),
    c.time("not_after", nullable=False),
    c.born(),
    Index(None, "tenant_id", "ca_certificate_id", "not_after"),
)

crls = c.table(
    "crls",
    c.reference("ca_certificate_id"),
    Column("number", BigInteger, nullable=False),
    c.time("this_update", nullable=False),
    c.time("next_update", nullable=False),
    c.count("revoked_count"),
    Column("crl_der", LargeBinary, nullable=False),
    c.born(),
    UniqueConstraint("tenant_id", "ca_certificate_id", "number"),
)

# one row a CA generation: the last CRL number that was taken, and what CRLs of which number tell at least
crl_numbers = Table(
    "crl_numbers",
    c.metadata,
    c.key("tenant_id"),
    c.key("ca_certificate_id"),
    Column("number", BigInteger, nullable=False),
    Column("listed_number", BigInteger, nullable=False, server_default="0"),
    Column("listed_total", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("tenant_id", "ca_certificate_id"),
)

# entries of CRLs as they are written, joined; all of a chunk may go from the CRL one CRL after `ends_on`
crl_chunks = c.table(
    "crl_chunks",
    c.reference("ca_certificate_id"),
    c.count("shard"),
    c.time("ends_on", nullable=False),
    c.count("size"),
    Column("entries_der", LargeBinary, nullable=False),
    Index("ix_crl_chunks_ca", "tenant_id", "ca_certificate_id", "id"),
    Index("ix_crl_chunks_open", "tenant_id", "ca_certificate_id", "shard", "ends_on", "size"),
)

# one row a shard of which anything was revoked: the CRL number from which on it is told, and how many were
crl_shards = Table(
    "crl_shards",
    c.metadata,
    c.key("tenant_id"),
    c.key("ca_certificate_id"),
    Column("shard", Integer, nullable=False),
    Column("listed_number", BigInteger, nullable=False),
    Column("listed_total", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant_id", "ca_certificate_id", "shard"),
)

# shards and deltas as they were published; the full CRLs are `crls`
crl_parts = c.table(
    "crl_parts",
    c.reference("ca_certificate_id"),
    c.count("shard"),
    c.flag("is_delta"),
    Column("number", BigInteger, nullable=False),
    Column("base_number", BigInteger, nullable=False, server_default="0"),
    c.time("base_at"),
    c.time("this_update", nullable=False),
    c.time("next_update", nullable=False),
    c.count("revoked_count"),
    Column("crl_der", LargeBinary, nullable=False),
    c.born(),
    UniqueConstraint("tenant_id", "ca_certificate_id", "shard", "is_delta", "number"),
)
