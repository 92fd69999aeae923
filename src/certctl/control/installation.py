"""What every installation has from its first start: the config key's salt, the built-in CA, default profile and
policies.

Made once, persistent, safe when several replicas start at once: whoever commits first wins, the rest use it.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timedelta

import msgspec

from certctl.authority.hierarchy import make_intermediate, make_root
from certctl.authority.signer import IssuingCA, SealedKey
from certctl.core.catalogue import CaCertificate, IssuerRecord, Profile, RenewalPolicy
from certctl.core.clock import Clock
from certctl.core.errors import CertctlError, Conflict, Misconfigured
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.ledger import adopt_restored, append
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import serial_hex
from certctl.pki.seal import Sealer
from certctl.store import authority, catalogue
from certctl.store.sealed import KEY_CHECK
from certctl.store.tx import Database, Tx
from certctl.telemetry import points

BUILT_IN_ISSUER = "iss-local"
SALT = "config_key_salt"
CHECK_TEXT = b"certctl"
CHECK_ROW = "certctl/installation/check"
_ROOT_LIFE = timedelta(days=3653)
_INTERMEDIATE_LIFE = timedelta(days=1826)


async def open_sealer(database: Database, scope: Scope, passphrase: Secret, clock: Clock) -> Sealer:
    """The config key of this installation, derived once; raises Misconfigured when it is not the one the data was
    sealed with.
    """
    async with database.begin("installation.salt") as tx:
        await authority.put_fact_once(tx, scope, SALT, os.urandom(16), clock.now())
        salt = await authority.get_fact(tx, scope, SALT)
    if salt is None:
        raise Misconfigured("the installation's salt is gone from the database; restore it from a backup")
    sealer = Sealer(passphrase, salt)
    async with database.begin("installation.check") as tx:
        sealed = sealer.seal(CHECK_TEXT, CHECK_ROW)
        await authority.put_fact_once(tx, scope, KEY_CHECK, sealed, clock.now())
        stored = await authority.get_fact(tx, scope, KEY_CHECK)
    sealer.unseal(stored or b"", CHECK_ROW)
    return sealer


async def check_config_key(database: Database, scope: Scope, passphrase: Secret) -> bool:
    """Whether the passphrase is the one the data was sealed with; False before the first start. Writes nothing.

    Raises Misconfigured for another one, TrustError for a damaged seal.
    """
    async with database.read() as tx:
        salt = await authority.get_fact(tx, scope, SALT)
        stored = await authority.get_fact(tx, scope, KEY_CHECK)
    if salt is None or stored is None:
        return False
    Sealer(passphrase, salt).unseal(stored, CHECK_ROW)
    return True


async def ensure_installation(ctx: Context, common_name: str = "certctl") -> None:
    """Seed what is missing: default policies and profile, and the built-in CA."""
    if not await seed_records(ctx.database, ctx.scope, ctx.now()):
        await _make_hierarchy(ctx, common_name)


async def seed_records(database: Database, scope: Scope, now: datetime) -> bool:
    """Seed the records that need no key: profile, policies, issuer. Whether the built-in CA is there already."""
    async with database.begin("installation.seed") as tx:
        for record in (_profile(scope, now), *_policies(scope, now), _issuer(scope, now)):
            if await catalogue.find(tx, scope, type(record), id=getattr(record, "id")) is None:  # noqa: B009 - any record
                with contextlib.suppress(Conflict):  # another replica seeds at the same time, with the same records
                    await catalogue.insert(tx, scope, record)
        await adopt_restored(tx, scope)
        return bool(await authority.ca_certificates_of(tx, scope, BUILT_IN_ISSUER))


async def _make_hierarchy(ctx: Context, common_name: str) -> None:
    """Root and issuing intermediate, keys sealed, written in one transaction; a replica that lost the race uses
    the winner's.
    """
    now = ctx.now()
    root_key = await ctx.create_key(KeyAlgorithm.ECDSA_P384)
    key = await ctx.create_key(KeyAlgorithm.ECDSA_P256)
    try:
        async with ctx.database.begin("installation.keys") as tx:
            await authority.insert_key(tx, ctx.scope, root_key, now)
            await authority.insert_key(tx, ctx.scope, key, now)
        root_id, ca_id = new_id("ca"), new_id("ca")
        root_der = await make_root(f"{common_name} Root CA", root_key, ctx.signer, now, _ROOT_LIFE)
        root = IssuingCA(root_id, root_der, (), root_key.key_ref, root_key.algorithm)
        der = await make_intermediate(
            f"{common_name} Issuing CA 1", key, root, ctx.signer, ctx.addresses, now, _INTERMEDIATE_LIFE
        )
        points.reach("installation.signed")
        async with ctx.database.begin("installation.ca") as tx:
            await _write(tx, ctx, root_id, "", "root", root_key, root_der, now)
            await _write(tx, ctx, ca_id, root_id, "intermediate", key, der, now)
            event = Event(
                type=EventType.CA_CREATED,
                subject_type="issuer",
                subject_id=BUILT_IN_ISSUER,
                actor=ctx.actor,
                details={"root_id": root_id, "ca_certificate_id": ca_id},
            )
            await append(tx, ctx.scope, now, event)
    except _LostRaceError:
        return


class _LostRaceError(CertctlError):
    """Another replica wrote the hierarchy first."""


async def _write(
    tx: Tx, ctx: Context, ca_id: str, parent_id: str, kind: str, key: SealedKey, der: bytes, now: datetime
) -> None:
    facts = read_certificate(der)
    record = CaCertificate(
        tenant_id=ctx.scope.tenant_id,
        id=ca_id,
        issuer_id=BUILT_IN_ISSUER,
        parent_id=parent_id,
        kind=kind,
        key_ref=key.key_ref,
        key_algorithm=str(key.algorithm),
        state="active",
        generation=1,
        subject=facts.common_name,
        serial_number=serial_hex(facts.serial_number),
        certificate_der=der,
        not_before=facts.not_before,
        not_after=facts.not_after,
        created_at=now,
    )
    if not await authority.insert_ca_certificate(tx, ctx.scope, record):
        raise _LostRaceError("another replica made the built-in CA")


def _issuer(scope: Scope, now: datetime) -> IssuerRecord:
    return IssuerRecord(
        tenant_id=scope.tenant_id,
        id=BUILT_IN_ISSUER,
        name="Built-in CA",
        type="local",
        config={},
        sealed_config=None,
        enabled=True,
        last_tested_at=None,
        test_status="untested",
        source="env",
        hierarchy_mode="tree",
        created_at=now,
        updated_at=now,
    )


def _profile(scope: Scope, now: datetime) -> Profile:
    return Profile(
        tenant_id=scope.tenant_id,
        id="prof-default",
        name="Default TLS server",
        description="Server certificates of up to 90 days; any strong key, any name.",
        version=1,
        allowed_key_algorithms=[
            {"algorithm": "ECDSA", "min_size": 256},
            {"algorithm": "RSA", "min_size": 2048},
            {"algorithm": "Ed25519", "min_size": 0},
        ],
        max_ttl_seconds=90 * 86400,
        allowed_ekus=["serverAuth"],
        required_san_patterns=[],
        spiffe_uri_pattern="",
        allow_short_lived=True,
        must_staple=False,
        required_csr_attributes=[],
        acme_auth_mode="trust_authenticated",
        requires_approval=False,
        enabled=True,
        created_at=now,
        updated_at=now,
    )


def _policies(scope: Scope, now: datetime) -> tuple[RenewalPolicy, ...]:
    default = RenewalPolicy(
        tenant_id=scope.tenant_id,
        id="rp-default",
        name="Default: renew when a third of the life is left",
        renewal_window_days=None,
        renewal_window_fraction=1 / 3,
        auto_renew=True,
        max_retries=5,
        retry_interval_seconds=3600,
        alert_thresholds_days=[30, 14, 7, 0],
        alert_channels={},
        alert_severity_map={},
        certificate_profile_id="",
        created_at=now,
        updated_at=now,
    )
    standard = msgspec.structs.replace(
        default,
        id="rp-standard",
        name="Standard: 30 days before the end",
        renewal_window_days=30,
        renewal_window_fraction=None,
    )
    manual = msgspec.structs.replace(default, id="rp-manual", name="Manual: never by itself", auto_renew=False)
    return default, standard, manual
