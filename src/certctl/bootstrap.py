"""The composition root: settings in, a running control plane out. The only module that knows every concrete part.

On an empty data directory it makes what is missing (keys, tables, CA, its own TLS certificate) before it listens;
whatever it cannot do it says in one sentence, and nothing half-started is left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from certctl.authority.keybox import DatabaseSigner
from certctl.authority.signer import IssuingCA, PkiAddresses, SealedKey
from certctl.connectors import registry
from certctl.connectors.base.issuer import Issuer
from certctl.connectors.base.notifier import Notifier
from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import KeptClients
from certctl.control import ca_accounts, channels, config_key
from certctl.control.config_key import Rotation
from certctl.control.installation import (
    BUILT_IN_ISSUER,
    check_config_key,
    ensure_installation,
    open_sealer,
    seed_records,
)
from certctl.control.issuer_secrets import open_config
from certctl.core.catalogue import IssuerRecord
from certctl.core.clock import Clock, SystemClock
from certctl.core.errors import Misconfigured, NotFound
from certctl.core.ids import DEFAULT_TENANT, uuid7
from certctl.core.notification import Channel
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.lifecycle import prove
from certctl.lifecycle.context import Context, Patience, Watching
from certctl.settings import FEWEST_KEY_CHARACTERS, HOW_TO_MAKE_A_KEY, Settings
from certctl.store import authority, migrate, presence
from certctl.store.database_clock import DatabaseClock
from certctl.store.standby import Reader
from certctl.store.tx import Database
from certctl.store.wake import Wakeups
from certctl.telemetry import points
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

SERVER_OWNER = "server:"
# a loaded machine must not lose its connections for being slow; a cut-off one must not hold locks for long
_SHORTEST_SILENCE, _LONGEST_SILENCE = timedelta(seconds=5), timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class House:
    """Everything one process of the control plane works with."""

    settings: Settings
    database: Database
    ctx: Context
    wakeups: Wakeups
    bootstrap_token: Secret
    reader: Reader | None = None


@contextlib.asynccontextmanager
async def open_house(
    settings: Settings, clock: Clock | None = None, *, migrations: bool = True
) -> AsyncIterator[House]:
    """Open database, keys and CA; on the embedded start hold the one lock that keeps a second server out.

    Unless told otherwise the clock is the machine's on SQLite, the database's on PostgreSQL.
    """
    _prepare_data_dir(settings)
    with contextlib.ExitStack() as locks:
        if settings.embedded:
            locks.enter_context(only_server(settings.data_dir))
        passphrase = _encryption_key(settings)
        database = Database(
            settings.database_url, max_connections=settings.database_max_connections, silence=_silence(settings.lease)
        )
        clients = KeptClients()
        reader = _reader(settings, database)
        try:
            await presence.wait_until_there(database, settings.database_wait)
            clock = clock or await _clock_of(settings, database)
            if settings.embedded:
                await _refuse_a_lost_database(settings, database)
            if settings.migrations_via_hook:
                await migrate.require(database)
            elif migrations:
                await migrate.migrate(database)
            scope = Scope.whole(DEFAULT_TENANT)
            sealer = await open_sealer(database, scope, passphrase, clock)
            ctx = _context(
                settings, database, scope, DatabaseSigner(partial(_load_key, database, scope), sealer), clock, clients
            )
            await ensure_installation(ctx, settings.ca_common_name)
            await channels.keep_environment(ctx, settings.alerts.channels)
            yield House(settings, database, ctx, Wakeups(), _bootstrap_token(settings), reader)
        finally:
            await clients.aclose()
            if reader is not None:
                await reader.close()
            await database.close()


def _reader(settings: Settings, database: Database) -> Reader | None:
    """The standby, if one is named. Nothing is asked of it yet: it may be down, and is no condition of a start."""
    if not settings.database_read_url:
        return None
    standby = Database(
        settings.database_read_url,
        max_connections=settings.database_max_connections,
        silence=_silence(settings.lease),
        takes_writes=False,
    )
    return Reader(database, standby, settings.database_read_lag)


async def _clock_of(settings: Settings, database: Database) -> Clock:
    if settings.embedded:
        return SystemClock()
    clock = DatabaseClock()
    await clock.read(database)
    return clock


async def prepare_database(settings: Settings, *, first_install: bool = False) -> str:
    """Migrate and seed, and nothing else: no key, no signer, no worker, no listener. The revision it is at now.

    With `first_install` a database that is not there yet is nothing to do: the answer is empty, the log says why.
    """
    _prepare_data_dir(settings)
    with contextlib.ExitStack() as locks:
        if settings.embedded:
            locks.enter_context(only_server(settings.data_dir))
        passphrase = _encryption_key(settings)
        database = Database(settings.database_url, max_connections=2, silence=_silence(settings.lease))
        try:
            if first_install and (why := await presence.why_absent(settings.database_url)):
                log.info("database_not_there_yet", reason=why, done="nothing: this is the first install")
                return ""
            await presence.wait_until_there(database, settings.database_wait)
            revision = await migrate.migrate(database)
            scope = Scope.whole(DEFAULT_TENANT)
            await check_config_key(database, scope, passphrase)
            await seed_records(database, scope, SystemClock().now())
        finally:
            await database.close()
    return revision


async def rotate_config_key(settings: Settings, new_key_file: Path, *, dry_run: bool = False) -> Rotation:
    """Seal everything that lies sealed under the key that `new_key_file` holds, instead of the one in the settings.

    A key of the embedded start's own is replaced in its file after the commit; asked again, that is made up for.
    """
    new = given_secret(new_key_file, "the new key")
    _prepare_data_dir(settings)
    with contextlib.ExitStack() as locks:
        if settings.embedded:
            locks.enter_context(only_server(settings.data_dir))
            if not settings.encryption_key and not _own_key_path(settings).exists():
                raise Misconfigured(f"there is no key in {settings.data_dir}: start the server once")
        old = _encryption_key(settings)
        database = Database(settings.database_url, max_connections=2, silence=_silence(settings.lease))
        try:
            await presence.wait_until_there(database, settings.database_wait)
            if (found := await migrate.current(database)) != migrate.head():
                raise Misconfigured(
                    f"the database is at revision {found or 'none'} and this release at {migrate.head()}: rotate with "
                    "the release that runs, before an upgrade or after it"
                )
            scope = Scope.whole(DEFAULT_TENANT)
            done = await config_key.rotate(database, scope, old, new, SystemClock().now(), dry_run=dry_run)
        finally:
            await database.close()
        if settings.embedded and not settings.encryption_key and not dry_run:
            points.reach("config_key.file")
            _make_secret(_own_key_path(settings), new.reveal())
    return done


def _context(
    settings: Settings,
    database: Database,
    scope: Scope,
    keybox: DatabaseSigner,
    clock: Clock,
    clients: KeptClients,
) -> Context:
    addresses = PkiAddresses(settings.pki_base_url)
    services = {
        "cas": partial(_issuing_ca, database, scope, {}),
        "root_of": partial(_root_of, database, scope, {}),
        "signer": keybox,
        "addresses": addresses,
        "answers": ca_accounts.Answers(lambda: made),
        "hosts": prove.Hosts(lambda: made),
        "clients": clients,
        "scripts_folder": settings.issuers_scripts_folder,
        "dial_policy": DialPolicy(
            purpose="asking a CA", allow=settings.issuers_allowed_networks, setting="CERTCTL_ISSUERS_ALLOWED_NETWORKS"
        ),
    }

    async def open_issuer(record: IssuerRecord) -> Issuer:
        more = {"accounts": ca_accounts.Accounts(lambda: made, record.id)}
        return registry.open_issuer(record.type, open_config(keybox.sealer, record), services | more)

    def open_notifier(channel: Channel) -> Notifier:
        return registry.open_notifier(
            channel.type, channels.open_config(keybox.sealer, channel), _notify_policy(settings, channel)
        )

    made = Context(
        clock=clock,
        database=database,
        scope=scope,
        owner=f"{SERVER_OWNER}{uuid7()}",
        began=clock.now(),
        # the embedded start stands on one machine with what it serves: there a loopback endpoint means what it says
        probe_policy=DialPolicy(purpose="verify.probe", allow_private=True, allow_loopback=settings.embedded),
        open_issuer=open_issuer,
        open_notifier=open_notifier,
        digest_recipients=settings.alerts.digest_recipients,
        watching=_watching(settings),
        keybox=keybox,
        addresses=addresses,
        patience=Patience(
            lease=settings.lease,
            agent_silence=settings.agent_silence,
            crl_pause=settings.crl_longest_pause,
            responder_validity=settings.ocsp_responder_validity,
            responder_grace=settings.ocsp_responder_grace,
            notification_retry=settings.alerts.retry_interval,
            awaiting_approval=settings.awaiting_approval_timeout,
            awaiting_csr=settings.awaiting_csr_timeout,
            audit_kept=settings.audit_retention,
        ),
    )
    return made


def _watching(settings: Settings) -> Watching:
    rules = settings.health
    return Watching(
        enabled=rules.enabled,
        auto_create=rules.auto_create,
        default_interval=rules.default_interval,
        timeout=rules.timeout,
        most_at_once=rules.most_at_once,
        history=rules.history,
    )


def _notify_policy(settings: Settings, channel: Channel) -> DialPolicy:
    """Public addresses, and what the installation allows; whoever sets the environment may name a host inside."""
    own = frozenset({(settings.host, settings.port), (settings.pki_http_host, settings.pki_http_port)})
    named = (channels.host_of(channel),) if channel.source == channels.FROM_ENVIRONMENT else ()
    return DialPolicy(
        purpose="notify",
        allow=(*settings.alerts.allow, *named),
        deny_listeners=frozenset(pair for pair in own if _is_address(pair[0])),
        setting="CERTCTL_NOTIFICATION_ALLOW",
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _silence(lease: timedelta) -> timedelta:
    """What a process that was cut off held in the database is free well before its leases lapse."""
    return min(max(lease / 2, _SHORTEST_SILENCE), _LONGEST_SILENCE)


async def _load_key(database: Database, scope: Scope, key_ref: str) -> SealedKey:
    async with database.read() as tx:
        return await authority.load_key(tx, scope, key_ref)


async def _issuing_ca(
    database: Database, scope: Scope, known: dict[str, IssuingCA], ca_certificate_id: str | None
) -> IssuingCA:
    """A CA generation by id, or the current one of the built-in issuer. What a generation signs with, and who signed
    it, never changes: that is read once. Which one is current is asked each time.
    """
    if ca_certificate_id in known:
        return known[ca_certificate_id]
    async with database.read() as tx:
        # one statement for the generation and all above it
        generations = await authority.ca_certificates_of(tx, scope, BUILT_IN_ISSUER)
        if ca_certificate_id is None:
            current = next((ca for ca in generations if ca.issues_leaves), None)
            if current is None:
                raise NotFound("the built-in CA has no active issuing certificate")
            ca_certificate_id = current.id
        if ca_certificate_id not in known:
            known[ca_certificate_id] = await authority.issuing_ca(tx, scope, ca_certificate_id, generations)
    return known[ca_certificate_id]


async def _root_of(database: Database, scope: Scope, known: dict[str, bytes], ca: IssuingCA) -> bytes:
    """The self-signed root above a CA generation, DER. Who signed a generation never changes: it is read once."""
    if ca.ca_certificate_id not in known:
        async with database.read() as tx:
            generations = await authority.ca_certificates_of(tx, scope, BUILT_IN_ISSUER)
            *_, root = await authority.lineage(tx, scope, ca.ca_certificate_id, generations)
        known[ca.ca_certificate_id] = root.certificate_der
    return known[ca.ca_certificate_id]


async def _refuse_a_lost_database(settings: Settings, database: Database) -> None:
    """An installation whose database is gone is not begun anew: its agents and certificates know another CA."""
    root = settings.data_dir / "ca.pem"
    if root.exists() and await migrate.current(database) is None:
        raise Misconfigured(
            f"the database of this installation is empty or gone, though {root} tells that there was one; "
            f"restore it from a backup, or remove {root} to begin a new installation"
        )


def _prepare_data_dir(settings: Settings) -> None:
    directory = settings.data_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a name of its own: other processes of this installation may be starting
        with tempfile.NamedTemporaryFile(prefix=".writable-", dir=directory):
            pass
    except OSError as error:
        raise Misconfigured(
            f"the data directory {directory} cannot be written ({error.strerror}); "
            "give it to this user, or name another one in CERTCTL_DATA_DIR"
        ) from error
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


@contextlib.contextmanager
def only_server(data_dir: Path) -> Iterator[None]:
    """Hold the data directory's lock: on SQLite there is exactly one server process."""
    with (data_dir / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(
                f"another certctl-server is running on {data_dir}; SQLite takes one, use PostgreSQL for more"
            ) from error
        yield


def _encryption_key(settings: Settings) -> Secret:
    if settings.encryption_key:
        return settings.encryption_key
    if not settings.embedded:
        raise Misconfigured(
            "CERTCTL_CONFIG_ENCRYPTION_KEY is not set; with PostgreSQL it has to be given, the same to every replica "
            "(make one with: openssl rand -base64 32)"
        )
    return _own_secret(_own_key_path(settings), "the config encryption key")


def _own_key_path(settings: Settings) -> Path:
    return settings.data_dir / "config-encryption.key"


def given_secret(path: Path, what: str) -> Secret:
    """A secret that somebody has put into a file for us: theirs alone to read, and long enough."""
    try:
        with path.open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Misconfigured(f"{what} in {path} can be read by others; run: chmod 600 {path}")
            text = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{what} cannot be read from {path}: {error}") from error
    if len(text) < FEWEST_KEY_CHARACTERS:
        raise Misconfigured(f"{what} has fewer than {FEWEST_KEY_CHARACTERS} characters; {HOW_TO_MAKE_A_KEY}")
    return Secret(text)


def _bootstrap_token(settings: Settings) -> Secret:
    if settings.bootstrap_token or not settings.embedded:
        return settings.bootstrap_token
    return _own_secret(settings.data_dir / "bootstrap-token", "the bootstrap token")


def _own_secret(path: Path, what: str) -> Secret:
    """A secret of the embedded start, made once, 0600; refused when others can read it."""
    if not path.exists():
        try:
            _make_secret(path, secrets.token_urlsafe(36))
        except OSError as error:
            raise Misconfigured(f"{what} cannot be kept in {path}: {error.strerror}") from error
    if path.stat().st_mode & 0o077:
        raise Misconfigured(f"{what} in {path} can be read by others; run: chmod 600 {path}")
    return Secret(path.read_text().strip())


def _make_secret(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    points.reach(f"secret.{path.name}.written")
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # what is sealed with a key whose name is lost can never be opened again
    finally:
        os.close(folder)
    points.reach(f"secret.{path.name}.named")
