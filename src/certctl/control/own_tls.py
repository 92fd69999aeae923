"""The control plane's own TLS certificate on the embedded start: a managed certificate like any other, key made here.

Asked for through the one door to issuance, so it is in the inventory, revocable, and renewed when a third of its life
is left. Files: `tls/server.key` (0600), `tls/server.pem` (leaf and chain), `ca.pem` (the root that clients trust).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from certctl.core.actor import SYSTEM
from certctl.core.certificate import CLIENT_HOLDER, OWN_TLS_SOURCE, Version
from certctl.core.errors import CertctlError, Misconfigured, NotFound, Temporary
from certctl.core.names import parse_names
from certctl.lifecycle import flow, request
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.csr import build_csr, csr_pem, read_csr
from certctl.pki.keys import generate_private_key, load_private_key, private_key_pem, public_key_matches
from certctl.pki.pem import certificate_pem, read_certificates
from certctl.store import authority, views
from certctl.telemetry import points

OWN_CERTIFICATE = "certctl-server"
_NAME = re.compile(rb"[A-Za-z0-9._-]*-[0-9a-f]{8}")
_LIFE = timedelta(days=47)
_LOOKS, _LOOK_SECONDS = 200, 0.1


class OwnTls(Struct, frozen=True):
    """Where the server's pair and the root of its chain lie, and what the certificate is called in the inventory."""

    cert_path: Path
    key_path: Path
    ca_path: Path
    certificate_id: str


def paths(data_dir: Path) -> OwnTls:
    """The places in a data directory. Each has a name of its own, since replicas on other hosts have keys of
    their own.
    """
    folder = data_dir / "tls"
    folder.mkdir(mode=0o700, exist_ok=True)
    name_path = folder / "certificate-id"
    # one that was cut short names nothing: a certificate of another name takes its place
    if not name_path.exists() or not _NAME.fullmatch(name_path.read_bytes().strip()):
        _write(name_path, f"{OWN_CERTIFICATE}-{secrets.token_hex(4)}".encode(), 0o644)
    return OwnTls(folder / "server.pem", folder / "server.key", data_dir / "ca.pem", name_path.read_text().strip())


async def ensure(ctx: Context, data_dir: Path, names: tuple[str, ...], issuer_id: str) -> str:
    """Make or renew the pair when needed; the fingerprint of the leaf that then lies there.

    Processes that share the directory take turns: one makes, the others find it made.
    """
    data_dir.joinpath("tls").mkdir(mode=0o700, exist_ok=True)
    with data_dir.joinpath("tls", ".lock").open("a") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        own = paths(data_dir)
        await _write_root(ctx, own.ca_path, issuer_id)
        if not _good(own, names, ctx):
            await _make(ctx, own, names, issuer_id)
        return read_certificate(read_certificates(own.cert_path.read_bytes())[0]).fingerprint_sha256


async def _make(ctx: Context, own: OwnTls, names: tuple[str, ...], issuer_id: str) -> None:
    staged = own.key_path.with_suffix(".next")
    key = _staged_key(staged)
    wanted = parse_names(list(names), "CERTCTL_SERVER_NAMES")
    csr = csr_pem(build_csr(load_private_key(key), wanted[0].value, wanted))
    version = await _issue(ctx, own.certificate_id, csr, names, issuer_id)
    pair = certificate_pem(version.leaf_der) + version.chain_pem
    public_key_matches(key, version.leaf_der)
    # key first: a crash in between leaves a pair that does not match, which the next start mends from the staged key
    _write(own.key_path, key, 0o600)
    _write(own.cert_path, pair.encode(), 0o644)
    staged.unlink()
    points.reach("own_tls.done")


def _good(own: OwnTls, names: tuple[str, ...], ctx: Context) -> bool:
    try:
        leaf_der = read_certificates(own.cert_path.read_bytes())[0]
        public_key_matches(own.key_path.read_bytes(), leaf_der)
    except (OSError, CertctlError, IndexError):
        return False
    facts = read_certificate(leaf_der)
    left = facts.not_after - ctx.now()
    return left > (facts.not_after - facts.not_before) / 3 and set(facts.names) == set(parse_names(list(names)))


def _staged_key(path: Path) -> bytes:
    """The next key, made once and found again after a crash; one that is damaged certifies nothing and is made anew."""
    with contextlib.suppress(FileNotFoundError, CertctlError):
        pem = path.read_bytes()
        load_private_key(pem)
        return pem
    pem = private_key_pem(generate_private_key(KeyAlgorithm.ECDSA_P256))
    _write(path, pem, 0o600)
    return pem


async def _issue(ctx: Context, certificate_id: str, csr: str, names: tuple[str, ...], issuer_id: str) -> Version:
    """The version that certifies this CSR's key: the one a crash left unwritten, or a fresh one."""
    spki_sha256 = read_csr(csr).spki_sha256
    current = await _current(ctx, certificate_id)
    if current is not None and current.spki_sha256 == spki_sha256:
        return current
    try:
        changes = request.CertificateChanges(common_name=names[0], sans=list(names))
        await request.update(ctx, ctx.scope, SYSTEM, certificate_id, changes)
        job = await request.submit_csr(ctx, ctx.scope, SYSTEM, certificate_id, csr)
    except NotFound:
        wanted = request.NewCertificate(
            id=certificate_id,
            name=certificate_id,
            common_name=names[0],
            sans=list(names),
            issuer_id=issuer_id,
            validity_seconds=int(_LIFE.total_seconds()),
            renewal_policy_id="rp-manual",
            csr_pem=csr,
            source=OWN_TLS_SOURCE,
            tags={"purpose": "control plane TLS"},
        )
        _, (job,) = await request.create(ctx, ctx.scope, SYSTEM, wanted)
    for _ in range(_LOOKS):
        await flow.drive(ctx, job.id)
        issued = await _current(ctx, certificate_id)
        if issued is not None and issued.spki_sha256 == spki_sha256:
            return issued
        await asyncio.sleep(_LOOK_SECONDS)  # another replica's worker may have a step of the job in hand
        await flow.free_lapsed(ctx)  # or had, and died: at a first start nobody else gives it back
    raise Misconfigured(f"the control plane could not issue its own TLS certificate; see job {job.id}")


async def _current(ctx: Context, certificate_id: str) -> Version | None:
    try:
        async with ctx.database.read() as tx:
            current = await views.current_versions(tx, ctx.scope, certificate_id)
    except NotFound:
        return None
    return next((version for version in current if version.holder_id == CLIENT_HOLDER), None)


async def _write_root(ctx: Context, path: Path, issuer_id: str) -> None:
    async with ctx.database.read() as tx:
        known = await authority.ca_certificates_of(tx, ctx.scope, issuer_id)
    roots = "".join(certificate_pem(ca.certificate_der) for ca in known if ca.kind == "root")
    if not path.exists() or path.read_text() != roots:
        _write(path, roots.encode(), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and durable. Raises Temporary: a disk in trouble is mended beneath us."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        points.reach(f"own_tls.{path.name}.written")
        temporary.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise Temporary(f"{path} cannot be written: {error.strerror}") from error
    points.reach(f"own_tls.{path.name}.named")
