"""What every stage works with: clock, transactions, issuers, signer, this process's name and patience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certctl.authority.keybox import DatabaseSigner
from certctl.authority.signer import PkiAddresses, SealedKey, Signer
from certctl.connectors.base.issuer import Issuer
from certctl.connectors.base.notifier import Notifier
from certctl.connectors.dial import DialPolicy
from certctl.core.actor import SYSTEM, Actor
from certctl.core.catalogue import IssuerRecord
from certctl.core.clock import Clock
from certctl.core.errors import Unsupported
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.notification import Channel
from certctl.core.scope import Scope
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.seal import Sealer
from certctl.store.tx import Database

OpenIssuer = Callable[[IssuerRecord], Awaitable[Issuer]]
OpenNotifier = Callable[[Channel], Notifier]


def _no_notifier(channel: Channel) -> Notifier:
    raise Unsupported(f"channel {channel.id} cannot be opened here")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take. Leases: a worker or agent that says nothing for so long has lost its step."""

    lease: timedelta = timedelta(seconds=30)
    agent_silence: timedelta = timedelta(minutes=5)
    crl_validity: timedelta = timedelta(hours=24)
    # what was revoked is on the CRL after so long, and as soon as it is written, however long that CRL is
    crl_pause: timedelta = timedelta(minutes=1)
    ocsp_validity: timedelta = timedelta(hours=1)
    responder_validity: timedelta = timedelta(days=30)
    responder_grace: timedelta = timedelta(days=7)
    # a step bound to a host is offered this often before its job is given up as poisonous
    agent_offers: int = 20
    # an agent of the reference product knows no leases and works one thing at a time, between two of its polls
    reference_lease: timedelta = timedelta(minutes=10)
    # a server that cannot reach a target says so after this many tries, and the deployment stays unverified
    probe_tries: int = 4
    probe_timeout: timedelta = timedelta(seconds=10)
    # the wait after a notification failed for the first time; it doubles, up to an hour
    notification_retry: timedelta = timedelta(minutes=1)
    # a job that has waited so long, for people or for the one who makes its key, has failed
    awaiting_approval: timedelta = timedelta(hours=168)
    awaiting_csr: timedelta = timedelta(hours=24)
    # how long audit events are kept; none: for ever
    audit_kept: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Watching:
    """How endpoints are looked at: how many at once by one process, how long each may take, how long it is told."""

    enabled: bool = True
    auto_create: bool = True
    default_interval: timedelta = timedelta(minutes=5)
    timeout: timedelta = timedelta(seconds=5)
    most_at_once: int = 20
    history: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Known:
    """A job as it was just written, and the issuer that it was approved for."""

    job: Job
    issuer: IssuerRecord


@dataclass(frozen=True, slots=True)
class Context:
    """One per process and tenant; stages get it as their first argument and keep no state of their own."""

    clock: Clock
    database: Database
    scope: Scope
    owner: str
    open_issuer: OpenIssuer
    keybox: DatabaseSigner
    addresses: PkiAddresses
    patience: Patience = field(default_factory=Patience)
    watching: Watching = field(default_factory=Watching)
    actor: Actor = SYSTEM
    open_notifier: OpenNotifier = _no_notifier
    # who gets the digest; nobody named: the recipients of the mail channels
    digest_recipients: tuple[str, ...] = ()
    # where the server itself looks at what a target serves: nothing is sent there, a fingerprint comes back
    probe_policy: DialPolicy = field(default_factory=lambda: DialPolicy(purpose="verify.probe", allow_private=True))
    # the leased steps that whoever drives a job runs next; None where steps are written for whoever claims them
    handed: list[Step] | None = None
    # of issue steps in `handed`: what the commit that handed them on wrote and went by, not read again; by step id
    known: dict[str, Known] = field(default_factory=dict)
    # the jobs that ended while they were driven
    ended: set[str] = field(default_factory=set)
    # since when this process can be heard of; None where that does not matter
    began: datetime | None = None

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return self.clock.now()

    @property
    def signer(self) -> Signer:
        """Who signs: nobody else holds a private key."""
        return self.keybox

    @property
    def sealer(self) -> Sealer:
        """What seals this installation's secrets, and derives keys for other purposes."""
        return self.keybox.sealer

    async def create_key(self, algorithm: KeyAlgorithm) -> SealedKey:
        """A fresh sealed key for our own CA; the caller stores it with the certificate made for it."""
        return await self.keybox.create_key(algorithm, new_id("key"))
