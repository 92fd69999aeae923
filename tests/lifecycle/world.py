"""A small world to tell stories in: a real database, the real engine, a clock we hold, hosts with keys of their own.

Only the wire is left out: hosts call the same functions the agents' routes call. What they serve is what they were given.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from certctl.bootstrap import House
from certctl.connectors.base.issuer import Intent, Issued, Order, Pending
from certctl.control import enrolment
from certctl.control.beats import Beats
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import Certificate, Version
from certctl.core.errors import Temporary
from certctl.core.ids import new_id
from certctl.core.names import parse_names
from certctl.core.status import StepKind
from certctl.core.target import AgentRecord, TargetRecord
from certctl.lifecycle import deploy, flow, observe, prepare, renew, request, verify
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import generate_private_key, spki_der
from certctl.pki.pem import read_certificates
from certctl.store import catalogue, certificates, views
from certctl.store.lists import Slice
from certctl.wire.agent import CsrReport, Enrolment, StatusReport, VerifyReport, WorkItem
from peers.installed import open_installed

PERSON = Actor(id="ak-test", type=ActorType.API_KEY, request_id="test")
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class HeldClock:
    """A clock that moves when told."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class MoodyIssuer:
    """The real built-in CA behind a switch: it can be down, or answer with a certificate for somebody else's key."""

    def __init__(self, real) -> None:
        self.real = real
        self.down = False
        self.wrong = False
        self.submitted: list[Order] = []

    async def draft(self, order: Order) -> Intent:
        return await self.real.draft(order)

    async def submit(self, order: Order) -> Issued | Pending:
        if self.down:
            raise Temporary("the CA does not answer")
        self.submitted.append(order)
        if self.wrong:
            stranger = generate_private_key(KeyAlgorithm.ECDSA_P256)
            order = msgspec.structs.replace(
                order, csr_der=build_csr(stranger, order.common_name, order.names), intent=None
            )
            order = msgspec.structs.replace(order, intent=await self.real.draft(order))
        return await self.real.submit(order)

    async def collect(self, reference: str, order: Order) -> Issued | Pending:
        return await self.real.collect(reference, order)

    async def revoke(self, revocation) -> None:
        if self.down:
            raise Temporary("the CA does not answer")
        await self.real.revoke(revocation)


@dataclasses.dataclass
class Host:
    """A host with an agent: keys by job id, and per target what its server serves."""

    world: World
    record: AgentRecord
    online: bool = True
    keys: dict[str, object] = dataclasses.field(default_factory=dict)
    serves: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: set[str] = dataclasses.field(default_factory=set)

    @property
    def actor(self) -> Actor:
        return Actor(id=self.record.id, type=ActorType.AGENT)

    async def work(self) -> int:
        if not self.online:
            return 0
        await enrolment.seen(self.world.ctx, self.world.beats, self.record, "boot-1")
        items = await flow.work_for(self.world.ctx, self.record, "boot-1", 10)
        for item in items:
            await self.do(item)
        return len(items)

    async def do(self, item: WorkItem) -> None:
        kind = StepKind(item.step_kind)
        if kind == StepKind.PREPARE:
            await self._prepare(item)
        elif kind == StepKind.DEPLOY:
            await self._deploy(item)
        else:
            await self._verify(item)

    async def _prepare(self, item: WorkItem) -> None:
        key = self.keys.setdefault(item.id, generate_private_key(KeyAlgorithm(item.key_algorithm)))
        csr = csr_pem(build_csr(key, item.common_name, parse_names(item.sans), item.must_staple))
        report = CsrReport(
            csr_pem=csr, certificate_id=item.certificate_id, job_id=item.id, step_id=item.step_id, fence=item.fence
        )
        job = await prepare.accept_csr(self.world.ctx, self.record, self.actor, report)
        await flow.drive(self.world.ctx, job.id, timedelta(minutes=1))  # a busy machine takes longer and means the same

    async def _deploy(self, item: WorkItem) -> None:
        if item.target_id in self.broken:
            report = StatusReport(
                status="Failed", error="reload failed", error_kind="rejected", step_id=item.step_id, fence=item.fence
            )
            await deploy.report(self.world.ctx, self.record, self.actor, item.id, report)
            return
        (leaf,) = read_certificates(item.certificate_pem)
        from certctl.pki.certs import read_certificate
        from certctl.pki.keys import spki_sha256

        assert read_certificate(leaf).spki_sha256 == spki_sha256(spki_der(self.keys[item.key_job_id])), (
            "the pair does not match"
        )
        before, self.serves[item.target_id] = self.serves.get(item.target_id, ""), sha256_hex(leaf)
        receipt = {"plan_id": item.plan_id, "served_before": before, "served_after": self.serves[item.target_id]}
        report = StatusReport(status="Completed", step_id=item.step_id, fence=item.fence, receipt=receipt)
        await deploy.report(self.world.ctx, self.record, self.actor, item.id, report)

    async def _verify(self, item: WorkItem) -> None:
        report = VerifyReport(
            target_id=item.target_id,
            expected_fingerprint=item.fingerprint_sha256,
            actual_fingerprint=self.serves.get(item.target_id, ""),
            step_id=item.step_id,
            fence=item.fence,
        )
        await verify.report(self.world.ctx, self.record, self.actor, item.id, report)


class World:
    """One installation, its hosts, its clock."""

    def __init__(self, house: House, clock: HeldClock) -> None:
        self.house = house
        self.clock = clock
        self.hosts: list[Host] = []
        self.moody: MoodyIssuer | None = None
        real_open = house.ctx.open_issuer

        async def open_issuer(record):
            if self.moody is None:
                self.moody = MoodyIssuer(await real_open(record))
            return self.moody

        self.ctx: Context = dataclasses.replace(house.ctx, open_issuer=open_issuer)
        # as in a process that is about to end: each sign of life is written at once
        closing = asyncio.Event()
        closing.set()
        self.beats = Beats(self.ctx, closing)

    async def issuer(self) -> MoodyIssuer:
        async with self.ctx.database.read() as tx:
            from certctl.core.catalogue import IssuerRecord

            record = await catalogue.get(tx, self.ctx.scope, IssuerRecord, "iss-local")
        return await self.ctx.open_issuer(record)

    async def host(self, name: str) -> Host:
        _, token = await enrolment.create_token(
            self.ctx, PERSON, agent_name=name, agent_group="", ttl=timedelta(hours=1)
        )
        record, _ = await enrolment.enrol(self.ctx, token, Enrolment(name=name, hostname=name), "127.0.0.1")
        host = Host(self, record)
        self.hosts.append(host)
        return host

    async def target(self, host: Host, name: str) -> TargetRecord:
        now = self.ctx.now()
        target = TargetRecord(
            tenant_id=self.ctx.scope.tenant_id, id=new_id("target"), name=name, type="NGINX", agent_id=host.record.id,
            config={}, sealed_config=None, enabled=True, last_tested_at=None, test_status="", source="api",
            retired_at=None, retired_reason="", created_at=now, updated_at=now,
        )  # fmt: skip
        async with self.ctx.database.begin("test.target") as tx:
            await catalogue.insert(tx, self.ctx.scope, target)
        return target

    async def policy(self, **changes) -> str:
        async with self.ctx.database.begin("test.policy") as tx:
            base = await catalogue.get(tx, self.ctx.scope, RenewalPolicy, "rp-default")
            policy = msgspec.structs.replace(base, id=new_id("rp"), name=new_id("policy"), **changes)
            await catalogue.insert(tx, self.ctx.scope, policy)
        return policy.id

    async def request(self, *targets: TargetRecord, name: str = "shop.example", **more) -> Certificate:
        wanted = request.NewCertificate(common_name=name, target_ids=[target.id for target in targets], **more)
        certificate, _ = await request.create(self.ctx, self.ctx.scope, PERSON, wanted)
        return certificate

    async def settle(self) -> None:
        """Run everything that is due now, server and hosts, until nothing is."""
        for _ in range(200):
            busy = await renew.tick(self.ctx)
            while claimed := await flow.claim(self.ctx, 20):
                await flow.run_claimed(self.ctx, claimed)
                busy += len(claimed)
            for host in self.hosts:
                busy += await host.work()
            if not busy:
                return
        raise AssertionError("the world never comes to rest")

    async def live(self, span: timedelta, hop: timedelta) -> None:
        """Let time pass in hops, everything settling after each."""
        end = self.clock.moment + span
        while self.clock.moment < end:
            self.clock.moment = min(self.clock.moment + hop, end)
            await observe.tick(self.ctx)
            await self.settle()

    async def certificate(self, certificate_id: str) -> Certificate:
        async with self.ctx.database.read() as tx:
            return await views.certificate(tx, self.ctx.scope, certificate_id)

    async def versions(self, certificate_id: str) -> list[Version]:
        """Oldest first."""
        async with self.ctx.database.read() as tx:
            return (await certificates.versions_of(tx, self.ctx.scope, certificate_id))[::-1]

    async def current(self, certificate_id: str) -> dict[str, Version]:
        async with self.ctx.database.read() as tx:
            return {
                version.holder_id: version
                for version in await views.current_versions(tx, self.ctx.scope, certificate_id)
            }

    async def deployments(self, certificate_id: str):
        async with self.ctx.database.read() as tx:
            return {
                view.target.id: view.deployment
                for view in await views.deployments_of(tx, self.ctx.scope, certificate_id)
            }

    async def jobs(self, **equal):
        async with self.ctx.database.read() as tx:
            return (await views.job_page(tx, self.ctx.scope, equal, Slice(500), descending=False)).data


@contextlib.asynccontextmanager
async def world(database_url: str, data_dir: Path) -> AsyncIterator[World]:
    """A fresh installation on this database."""
    clock = HeldClock()
    environment = {
        "CERTCTL_DATA_DIR": str(data_dir),
        "CERTCTL_DATABASE_URL": database_url,
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "a key for tests only, of enough length",
        "CERTCTL_PKI_BASE_URL": "http://pki.example",
    }
    async with open_installed(environment, clock) as house:
        yield World(house, clock)
