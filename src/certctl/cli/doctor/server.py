"""`certctl-server doctor`: is this machine's control plane set up well? Run as the server's user, beside it or alone.

Reads only: no lock is taken, nothing is migrated, made or tightened. Must never print a key or a passphrase.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from certctl import settings as settings_module
from certctl.cli.doctor import Finding, examine, fail, judge_clock, judge_end, ok, tell, warn
from certctl.connectors.base.receiver import Receiver
from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import client as open_client
from certctl.connectors.probe import probe_tls
from certctl.connectors.receivers import receivers_of
from certctl.control.installation import BUILT_IN_ISSUER, check_config_key
from certctl.core.errors import CertctlError, Misconfigured
from certctl.core.ids import DEFAULT_TENANT
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import public_key_matches
from certctl.pki.pem import read_certificates
from certctl.settings import Settings
from certctl.store import audit_receivers, authority, migrate, schema
from certctl.store.standby import Reader, Standing
from certctl.store.tx import Database, Tx

_SCOPE = Scope.whole(DEFAULT_TENANT)
_SECRETS = ("config-encryption.key", "bootstrap-token", "tls/server.key")
_FUTURE = timedelta(seconds=60)
_LOOK = timedelta(seconds=2)
_PUSH_LATE = timedelta(minutes=15)
_NOT_LOOKED = warn("not looked at: the database is not ready", "mend the database first")
_OWN = DialPolicy(purpose="doctor", allow_private=True, allow_loopback=True)


def check_data_folder(settings: Settings) -> Finding:
    """The data directory is private and can be written."""
    path = settings.data_dir
    if not path.exists():
        return warn(f"the data directory {path} is not there yet", "the first start makes it")
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISDIR(facts.st_mode):
        return fail(f"{path} is no directory", "name another one in CERTCTL_DATA_DIR")
    if facts.st_uid != os.geteuid():
        said = f"the data directory {path} belongs to user {facts.st_uid}, this is user {os.geteuid()}"
        return fail(said, "run this as the server's user, or chown it")
    if mode & 0o077:
        return fail(f"the data directory {path} is open to others (mode {mode:04o})", f"chmod 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return fail(f"the data directory {path} cannot be written", "make it writable for the server's user")
    return ok(f"{path} is private and can be written")


def check_secrets(settings: Settings) -> list[Finding]:
    """Files that hold secrets are nobody else's to read."""
    return list(_loose(settings)) or [ok("secrets are readable by the server's user alone")]


def _loose(settings: Settings) -> Iterator[Finding]:
    paths = [settings.data_dir / name for name in _SECRETS]
    for path in [*paths, *([settings.tls_key_path] if settings.tls_key_path else [])]:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        # a key of the operator's own may belong to a group
        if mode & (0o007 if path == settings.tls_key_path else 0o077):
            yield fail(f"{path} can be read by others (mode {mode:04o})", f"chmod 600 {path}, and replace the secret")


async def check_database(settings: Settings) -> Finding:
    """The database answers and has this release's schema."""
    if (path := _sqlite_file(settings)) is not None and not path.exists():
        return warn(f"there is no database {path} yet", "the first start makes it")
    async with _database(settings) as database:
        try:
            found = await migrate.standing(database)
        except (CertctlError, OSError) as error:
            said = error.message if isinstance(error, CertctlError) else str(error)
            return fail(f"the database does not answer: {said}", "look at CERTCTL_DATABASE_URL and whether it runs")
    if found.revision is None:
        return warn("the database is empty", "the first start fills it, or: certctl-server --migrate-only")
    if found.revision < migrate.head():
        said = f"the database is at revision {found.revision}, this release needs {migrate.head()}"
        return fail(said, "back it up, then: certctl-server --migrate-only")
    try:
        migrate.refuse_newer(found, migrate.known())
    except CertctlError as error:
        return fail(error.message, "start the newer release, or restore a backup from before the upgrade")
    if found.revision != migrate.head():
        return ok(f"the {database.dialect} database answers, at revision {found.revision} of a newer release")
    return ok(f"the {database.dialect} database answers, at revision {found.revision}")


async def check_read_standby(settings: Settings) -> Finding:
    """The standby that lists are read from, if there is one, follows and is near enough."""
    if not settings.database_read_url:
        return ok("all is read from the database itself")
    standby = Database(settings.database_read_url, max_connections=2, takes_writes=False)
    async with _database(settings) as database:
        reader = Reader(database, standby, settings.database_read_lag)
        try:
            found = await reader.look()
            if found.standing is Standing.BEHIND:
                # what it had not yet when it was asked it may have by now
                await asyncio.sleep(_LOOK.total_seconds())
                found = await reader.look()
        finally:
            await reader.close()
    if found.standing is Standing.USED:
        return ok(f"the standby answers, at most {found.behind_seconds or 0:.1f} s behind")
    said = f"the standby of CERTCTL_DATABASE_READ_URL is not read from ({found.standing}) {found.detail}".rstrip()
    return warn(said, "look whether it runs and follows; until then the database itself answers everything")


async def check_encryption_key(settings: Settings) -> Finding:
    """The config encryption key is the one that the data was sealed with."""
    own = settings.data_dir / "config-encryption.key"
    passphrase = settings.encryption_key
    if not passphrase:
        if not settings.embedded:
            raise Misconfigured("CERTCTL_CONFIG_ENCRYPTION_KEY is not set; with PostgreSQL it has to be given")
        if not own.exists():
            made = (_sqlite_file(settings) or own).exists()
            lost = fail(f"{own} is gone, and what was sealed with it cannot be read", "restore it from a backup")
            return lost if made else warn(f"there is no {own} yet", "the first start makes it")
        passphrase = Secret(own.read_text().strip())
    if not await _is_ready(settings):
        return _NOT_LOOKED
    async with _database(settings) as database:
        try:
            known = await check_config_key(database, _SCOPE, passphrase)
        except CertctlError as error:
            return fail(error.message, "without the right key no CA key can be used; look for it in your backups")
    return ok("the config encryption key fits the data") if known else warn("nothing is sealed yet", "start the server")


async def check_clock(settings: Settings) -> Finding:
    """This machine's clock agrees with the database's, and with what was written before."""
    if not await _is_ready(settings):
        return _NOT_LOOKED
    async with _database(settings) as database, database.read() as tx:
        before = datetime.now(UTC)
        if database.dialect == "postgresql":
            theirs = await tx.scalar(sa.select(sa.func.clock_timestamp()))
            return judge_clock(theirs, before, datetime.now(UTC), "the database's")
        newest: datetime | None = await tx.scalar(sa.select(sa.func.max(schema.events.c.created_at)))
    if newest is not None and newest - before > _FUTURE:
        said = f"the newest event was written at {newest:%Y-%m-%d %H:%M:%S} UTC, which is in the future"
        return fail(said, "this machine's clock is behind, or was ahead then: set it right (chrony)")
    return ok("the clock is not behind what was written before")


async def check_https_port(settings: Settings) -> Finding:
    """The HTTPS port is free, or it is ours that answers there."""
    taken = _taken(settings.host, settings.port, "CERTCTL_SERVER_PORT")
    if taken is None or taken.status == "fail":
        return taken or ok(f"{settings.host}:{settings.port} is free: the server does not run")
    try:
        served = await probe_tls(_reached(settings.host), settings.port, "", _OWN, _LOOK)
    except CertctlError as error:
        return fail(f"{taken.message}, and it speaks no TLS: {error.message}", taken.next)
    path, _ = _tls_files(settings)
    if path.exists() and sha256_hex(read_certificates(path.read_bytes())[0]) == served.fingerprint_sha256:
        return ok(f"{settings.host}:{settings.port} is ours: the server runs with the certificate in {path}")
    said = f"{taken.message}, with another certificate than {path}"
    return fail(said, "another program? choose another CERTCTL_SERVER_PORT; our server with an old one? send it SIGHUP")


async def check_pki_port(settings: Settings) -> Finding:
    """The plain HTTP port for CRL and OCSP is free, or it is ours that answers there."""
    taken = _taken(settings.pki_http_host, settings.pki_http_port, "CERTCTL_PKI_HTTP_PORT")
    at = f"{settings.pki_http_host}:{settings.pki_http_port}"
    if taken is None or taken.status == "fail":
        return taken or ok(f"{at} is free: the server does not run")
    host = _reached(settings.pki_http_host)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{settings.pki_http_port}/.well-known/pki/crl/{BUILT_IN_ISSUER}"
    async with open_client(_OWN, timeout=_LOOK) as http:
        try:
            answer = await http.get(url)
        except Exception as error:  # whatever it speaks, it is not our PKI listener
            return fail(f"{taken.message}, and it is no PKI listener ({type(error).__name__})", taken.next)
    if answer.status_code != 200:
        return fail(f"{taken.message}, and it has no CRL of ours ({answer.status_code})", taken.next)
    return ok(f"{at} is ours: it serves the CRL")


def check_own_tls(settings: Settings) -> Finding:
    """The server's TLS certificate and key are there, belong together, and are good for a while."""
    cert_path, key_path = _tls_files(settings)
    if not cert_path.exists() and settings.tls_cert_path is None:
        return warn(f"there is no {cert_path} yet", "the first start makes it")
    leaf_der = read_certificates(cert_path.read_bytes())[0]
    public_key_matches(key_path.read_bytes(), leaf_der)
    facts = read_certificate(leaf_der)
    step = "replace it, then send the server SIGHUP" if settings.tls_cert_path else "start the server: it renews it"
    life = facts.not_after - facts.not_before
    return judge_end(f"the TLS certificate {cert_path}", facts.not_after, datetime.now(UTC), life, step)


async def check_ca(settings: Settings) -> list[Finding]:
    """The built-in CA's certificates are good for a while."""
    if not await _is_ready(settings):
        return [_NOT_LOOKED]
    async with _database(settings) as database, database.read() as tx:
        known = await authority.ca_certificates_of(tx, _SCOPE, BUILT_IN_ISSUER)
    return [
        judge_end(
            f"CA {ca.subject}",
            ca.not_after,
            datetime.now(UTC),
            ca.not_after - ca.not_before,
            "plan its successor: certificates may not outlive it",
        )
        for ca in known
        if ca.state == "active"
    ] or [warn("there is no CA yet", "the first start makes it")]


async def check_audit_push(settings: Settings) -> list[Finding]:
    """Whoever is to have the audit log off the box has it."""
    receivers = receivers_of(settings.audit)
    if not receivers or not await _is_ready(settings):
        return [ok("the audit log is pushed nowhere")] if not receivers else [_NOT_LOOKED]
    async with _database(settings) as database, database.read() as tx:
        return [await _pushed(tx, each) for each in receivers]


async def _pushed(tx: Tx, receiver: Receiver) -> Finding:
    cursor = await audit_receivers.read(tx, _SCOPE, receiver.name)
    place = cursor.place if cursor else (0, 0)
    since = await audit_receivers.waits_since(tx, _SCOPE, place)
    told = f"{receiver.name} ({receiver.address})"
    if since is None or datetime.now(UTC) - since < _PUSH_LATE:
        return ok(f"the audit log is with {told}")
    waiting = await audit_receivers.behind(tx, _SCOPE, place, 100_000)
    why = cursor.error if cursor and cursor.error else "nothing was tried: does the server run?"
    said = f"{waiting} audit events wait for {told}, the oldest since {since:%Y-%m-%d %H:%M:%S} UTC: {why}"
    return warn(said, "mend the receiver or the way to it; nothing is lost meanwhile")


def check_pki_base_url(settings: Settings) -> Finding:
    """The address that stands in every certificate can be reached by those who check them."""
    host = urlsplit(settings.pki_base_url).hostname or ""
    if host == "localhost" or _is_loopback(host):
        said = f"certificates carry {settings.pki_base_url}, which nobody else can reach: no CRL, no OCSP for them"
        return warn(said, "set CERTCTL_PKI_BASE_URL to a name that relying parties reach, before you issue")
    return ok(f"certificates carry {settings.pki_base_url}")


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _taken(host: str, port: int, variable: str) -> Finding | None:
    """None when the port is free (or any free one is asked for); a warning when somebody listens; else a failure."""
    if port == 0:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return warn(f"somebody listens on {host}:{port}", f"stop it, or choose another {variable}")
            return fail(f"cannot listen on {host}:{port}: {error.strerror}", f"choose another address or {variable}")
    return None


def _reached(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _tls_files(settings: Settings) -> tuple[Path, Path]:
    if settings.tls_cert_path and settings.tls_key_path:
        return settings.tls_cert_path, settings.tls_key_path
    return settings.data_dir / "tls" / "server.pem", settings.data_dir / "tls" / "server.key"


def _sqlite_file(settings: Settings) -> Path | None:
    return Path(settings.database_url.removeprefix("sqlite:///")) if settings.embedded else None


async def _is_ready(settings: Settings) -> bool:
    return (await check_database(settings)).status == "ok"


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.database_url, max_connections=2)
    try:
        yield database
    finally:
        await database.close()


CHECKS = (
    check_data_folder,
    check_secrets,
    check_database,
    check_read_standby,
    check_encryption_key,
    check_clock,
    check_https_port,
    check_pki_port,
    check_own_tls,
    check_ca,
    check_audit_push,
    check_pki_base_url,
)


def run(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Examine this machine's control plane; returns the exit code."""
    try:
        chosen = settings_module.load(environ)
    except CertctlError as error:
        return tell([Finding(check="settings", status="fail", message=error.message)], as_json=as_json)
    return tell(examine(CHECKS, chosen), as_json=as_json)
