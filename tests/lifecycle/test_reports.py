"""What many agents report at the same time comes to what it would have come to one by one: CSRs by two commits, receipts
and looks by one each."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from certctl.core.actor import Actor, ActorType
from certctl.core.errors import Temporary
from certctl.core.names import parse_names
from certctl.core.status import DeploymentStatus, JobStatus, JobType, StepKind, StepStatus, VersionStatus
from certctl.core.target import AgentRecord
from certctl.lifecycle import csrs, deploy, flow, prepare, renew, request, verify
from certctl.lifecycle.reports import Report
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from certctl.store import audit, catalogue, reported
from certctl.store.schema import observations, orders, steps
from certctl.telemetry import points
from certctl.wire.agent import CsrReport, StatusReport, VerifyReport, WorkItem
from lifecycle.dying import Died, dying_at
from lifecycle.world import PERSON, Host, World

_KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)


class Together(Host):
    """A host whose reports are taken by the stages that take many."""

    async def items(self) -> list[WorkItem]:
        return await flow.work_for(self.world.ctx, self.record, "boot-1", 100)

    def csr(self, item: WorkItem, **more) -> Report[CsrReport]:
        key = self.keys.setdefault(item.id, generate_private_key(KeyAlgorithm.ECDSA_P256))
        said = {
            "csr_pem": csr_pem(build_csr(key, item.common_name, parse_names(item.sans))),
            "certificate_id": item.certificate_id,
            "job_id": item.id,
            "step_id": item.step_id,
            "fence": item.fence,
        }
        return Report(self.record, self.actor, item.id, CsrReport(**(said | more)))

    def receipt(self, item: WorkItem, **more) -> Report[StatusReport]:
        (leaf,) = read_certificates(item.certificate_pem)
        before, self.serves[item.target_id] = self.serves.get(item.target_id, ""), sha256_hex(leaf)
        receipt = {"plan_id": item.plan_id, "served_before": before, "served_after": self.serves[item.target_id]}
        said = {"status": "Completed", "step_id": item.step_id, "fence": item.fence, "receipt": receipt}
        return Report(self.record, self.actor, item.id, StatusReport(**(said | more)))

    def look(self, item: WorkItem, **more) -> Report[VerifyReport]:
        said = {
            "target_id": item.target_id,
            "expected_fingerprint": item.fingerprint_sha256,
            "actual_fingerprint": self.serves.get(item.target_id, ""),
            "step_id": item.step_id,
            "fence": item.fence,
        }
        return Report(self.record, self.actor, item.id, VerifyReport(**(said | more)))


async def hosts_of(town: World, count: int) -> tuple[list[Together], list[str]]:
    """So many hosts, each with one target and one certificate that waits for its CSR; ids of the certificates."""
    hosts, ids = [], []
    for number in range(count):
        made = await town.host(f"h{number}")
        host = Together(town, made.record)
        town.hosts[-1] = host
        target = await town.target(host, f"t{number}")
        ids.append((await town.request(target, name=f"n{number}.example")).id)
        hosts.append(host)
    while claimed := await flow.claim(town.ctx, 20):
        await flow.run_claimed(town.ctx, claimed)
    return hosts, ids


async def one_each(hosts: list[Together]) -> list[WorkItem]:
    found = []
    for host in hosts:
        (item,) = await host.items()
        found.append(item)
    return found


async def bring(town: World, hosts: list[Together], items: list[WorkItem]) -> list:
    found = await csrs.intend(town.ctx, [host.csr(item) for host, item in zip(hosts, items, strict=True)])
    await csrs.finish(town.ctx, [one for one in found if one is not None])
    return found


async def told(town: World, certificate_id: str) -> list[tuple]:
    async with town.ctx.database.read() as tx:
        rows = await audit.events_after(tx, town.ctx.scope, (0, 0), 10_000)
    return [(row.type, row.actor_type, sorted(row.details)) for row in rows if row.subject_id == certificate_id]


async def rows_of(town: World, table: sa.Table, *names: str, **equal) -> list[tuple]:
    async with town.ctx.database.read() as tx:
        chosen = sa.select(*(table.c[name] for name in names)).where(*(table.c[n] == v for n, v in equal.items()))
        return [tuple(row) for row in await tx.execute(chosen.order_by(table.c.id))]


async def all_of(town: World, certificate_id: str) -> dict:
    """All that stands of a certificate, but for ids, moments and bytes."""
    row = await town.certificate(certificate_id)
    found_jobs = sorted(await town.jobs(certificate_id=certificate_id), key=lambda job: (job.created_at, job.type))
    return {
        "row": (row.status, row.status_reason, row.failures, row.expires_at is None, row.last_deployment_at is None),
        "jobs": [
            (job.type, job.status, job.attempts, job.last_error, job.error_kind, job.verification_status)
            for job in found_jobs
        ],
        "bodies": [sorted(job.body) for job in found_jobs],
        "parents": [bool(job.parent_id) for job in found_jobs],
        "steps": [
            await rows_of(town, steps, "kind", "status", "fence", "attempts", "lease_owner", "error", job_id=job.id)
            for job in found_jobs
        ],
        "orders": [await rows_of(town, orders, "status", job_id=job.id) for job in found_jobs],
        "versions": [(one.status, one.holder_id == "client") for one in await town.versions(certificate_id)],
        "deployments": [
            (one.status, sorted(one.receipt or {}), one.error, bool(one.observed_fingerprint))
            for one in (await town.deployments(certificate_id)).values()
        ],
        "told": await told(town, certificate_id),
    }


async def test_a_rollout_together_comes_to_what_each_comes_to_alone(town: World):
    """First versions, then their renewals: table by table as for a host whose reports are taken one by one."""
    hosts, ids = await hosts_of(town, 4)
    alone = hosts.pop()
    for again in range(2):
        if again:
            for certificate_id in ids:
                await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate_id, force=True)
            while claimed := await flow.claim(town.ctx, 20):
                await flow.run_claimed(town.ctx, claimed)
        while await alone.work():
            pass
        members = await bring(town, hosts, await one_each(hosts))
        assert [member.version is not None for member in members] == [True] * 3
        items = await one_each(hosts)
        receipts = [host.receipt(item) for host, item in zip(hosts, items, strict=True)]
        assert set(await deploy.report_all(town.ctx, receipts)) == set(receipts)
        items = await one_each(hosts)
        looks = [host.look(item) for host, item in zip(hosts, items, strict=True)]
        assert await verify.report_all(town.ctx, looks) == dict.fromkeys(looks, True)
        expected = await all_of(town, ids[3])
        assert expected["deployments"][0][0] == DeploymentStatus.VERIFIED
        for certificate_id in ids[:3]:
            found = await all_of(town, certificate_id)
            assert {name: found[name] for name in expected} == expected
            current = await town.current(certificate_id)
            assert {one.fingerprint_sha256 for one in current.values()} <= {
                served for host in hosts for served in host.serves.values()
            }
    seen = await rows_of(town, observations, "expected_fingerprint", "observed_fingerprint", "error", "observed_by")
    assert len(seen) == 8
    assert all(expected == observed and not error and by for expected, observed, error, by in seen)
    assert not await flow.claim(town.ctx, 20)


async def test_who_breaks_a_rule_takes_nobody_along(town: World):
    hosts, ids = await hosts_of(town, 6)
    items = await one_each(hosts)
    stranger = Actor(id="someone", type=ActorType.AGENT)
    brought = [
        hosts[0].csr(items[0]),
        hosts[1].csr(items[1], fence=items[1].fence + 1),
        hosts[2].csr(items[2], csr_pem="no CSR"),
        Report(hosts[0].record, stranger, items[3].id, hosts[3].csr(items[3]).said),
        hosts[4].csr(items[4], csr_pem=csr_pem(build_csr(_KEY, "another.example", parse_names(["another.example"])))),
        hosts[5].csr(items[5]),
        hosts[5].csr(items[5]),
    ]
    found = await csrs.intend(town.ctx, brought)
    assert [one is not None for one in found] == [True, False, False, False, False, True, False]
    await csrs.finish(town.ctx, [one for one in found if one is not None])
    assert [len(await town.versions(certificate_id)) for certificate_id in ids] == [1, 0, 0, 0, 0, 1]
    for number in (1, 2, 3, 4):  # what was refused has changed nothing: the right CSR is still taken
        job = await prepare.accept_csr(
            town.ctx, hosts[number].record, hosts[number].actor, hosts[number].csr(items[number]).said
        )
        assert job.id == items[number].id


async def test_a_receipt_or_a_look_that_shows_something_else_goes_alone(town: World):
    hosts, ids = await hosts_of(town, 4)
    await bring(town, hosts, await one_each(hosts))
    items = await one_each(hosts)
    right = hosts[0].receipt(items[0])
    receipts = [
        right,
        hosts[1].receipt(items[1], receipt={"served_after": "00"}),
        hosts[2].receipt(items[2], fence=99),
        hosts[3].receipt(items[3], receipt=None),
    ]
    assert await deploy.report_all(town.ctx, receipts) == {right: True}
    assert await deploy.report_all(town.ctx, receipts) == {}, "once"
    for host, item in zip(hosts[1:], items[1:], strict=True):
        (good,) = [host.receipt(item)]
        assert await deploy.report_all(town.ctx, [good]) == {good: True}
    items = await one_each(hosts)
    right = hosts[0].look(items[0])
    looks = [right, hosts[1].look(items[1], actual_fingerprint="00"), hosts[2].look(items[2], fence=99)]
    assert await verify.report_all(town.ctx, looks) == {right: True}
    statuses = [one.status for certificate_id in ids for one in (await town.deployments(certificate_id)).values()]
    assert statuses == [DeploymentStatus.VERIFIED] + [DeploymentStatus.APPLIED] * 3


async def test_files_alone_are_not_seen_and_a_version_that_was_replaced_meanwhile_goes_alone(town: World):
    hosts, ids = await hosts_of(town, 2)
    await bring(town, hosts, await one_each(hosts))
    items = await one_each(hosts)
    by_files = hosts[0].receipt(items[0])
    by_files.said.receipt = (by_files.said.receipt or {}) | {"seen_by": "files"}
    other = hosts[1].receipt(items[1])
    assert set(await deploy.report_all(town.ctx, [by_files, other])) == {by_files, other}
    items = await one_each(hosts)
    (version,) = await town.versions(ids[1])
    async with town.ctx.database.begin("test") as tx:
        from certctl.store.schema import versions

        await tx.execute(sa.update(versions).where(versions.c.id == version.id).values(status=VersionStatus.SUPERSEDED))
    looks = [host.look(item) for host, item in zip(hosts, items, strict=True)]
    assert await verify.report_all(town.ctx, looks) == {}


async def test_a_job_that_was_cancelled_between_intent_and_record_has_no_version(town: World):
    hosts, ids = await hosts_of(town, 3)
    found = await csrs.intend(
        town.ctx, [host.csr(item) for host, item in zip(hosts, await one_each(hosts), strict=True)]
    )
    await request.cancel(town.ctx, town.ctx.scope, PERSON, found[1].known.job.id)
    await csrs.finish(town.ctx, found)
    assert [member.version is not None for member in found] == [True, False, True]
    assert [len(await town.versions(certificate_id)) for certificate_id in ids] == [1, 0, 1]
    (job,) = [job for job in await town.jobs(certificate_id=ids[1]) if job.type == JobType.ISSUANCE]
    assert job.status == JobStatus.CANCELLED


async def test_two_key_holders_of_one_certificate_each_get_their_version(town: World):
    hosts, targets = [], []
    for number in range(2):
        made = await town.host(f"h{number}")
        host = Together(town, made.record)
        town.hosts[-1] = host
        hosts.append(host)
        targets.append(await town.target(host, f"t{number}"))
    certificate = await town.request(*targets)
    while claimed := await flow.claim(town.ctx, 20):
        await flow.run_claimed(town.ctx, claimed)
    found = await bring(town, hosts, await one_each(hosts))
    assert all(member is not None for member in found)
    await town.settle()
    assert {one.holder_id for one in (await town.current(certificate.id)).values()} == {h.record.id for h in hosts}
    assert {one.status for one in (await town.deployments(certificate.id)).values()} == {DeploymentStatus.VERIFIED}


async def test_a_ca_that_is_down_is_asked_again_for_the_same_orders(town: World):
    hosts, ids = await hosts_of(town, 2)
    moody = await town.issuer()
    moody.down = True
    found = await bring(town, hosts, await one_each(hosts))
    assert [member.version for member in found] == [None, None]
    moody.down = False
    town.clock.moment = town.clock.moment.replace(hour=town.clock.moment.hour + 1)
    await town.settle()
    for member, certificate_id in zip(found, ids, strict=True):
        (version,) = await town.versions(certificate_id)
        assert version.serial_number == member.order.record.serial_number


async def test_a_database_that_is_away_is_told_to_all(town: World, monkeypatch):
    hosts, _ = await hosts_of(town, 2)
    items = await one_each(hosts)

    async def away(*_args, **_more):
        raise Temporary("the database cannot be reached")

    monkeypatch.setattr(reported, "leased", away)
    with pytest.raises(Temporary):
        await csrs.intend(town.ctx, [host.csr(item) for host, item in zip(hosts, items, strict=True)])


POINTS = (
    "commit.prepare.before",
    "commit.prepare.after",
    "issue.asking",
    "issue.answered",
    "commit.record.before",
    "commit.record.after",
    "commit.deploy.report.before",
    "commit.deploy.report.after",
    "commit.verify.report.before",
    "commit.verify.report.after",
)


_KINDS = {
    JobType.ISSUANCE: (StepKind.APPROVE, StepKind.PREPARE, StepKind.ISSUE, StepKind.RECORD),
    JobType.DEPLOYMENT: (StepKind.DEPLOY, StepKind.VERIFY),
}


@pytest.mark.parametrize("point", POINTS)
async def test_wherever_a_process_dies_each_is_issued_deployed_and_proven_once(town: World, point: str):
    hosts, ids = await hosts_of(town, 3)

    async def play() -> None:
        await bring(town, hosts, await one_each(hosts))
        items = await one_each(hosts)
        await deploy.report_all(town.ctx, [host.receipt(item) for host, item in zip(hosts, items, strict=True)])
        items = await one_each(hosts)
        await verify.report_all(town.ctx, [host.look(item) for host, item in zip(hosts, items, strict=True)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points, "hook", dying_at(point))
        with pytest.raises(Died):
            await play()
    town.clock.moment += town.ctx.patience.lease * 2
    await flow.free_lapsed(town.ctx)
    await town.settle()
    signed = [order.job_id for order in (await town.issuer()).submitted]
    for certificate_id in ids:
        (version,) = await town.versions(certificate_id)
        assert version.status == VersionStatus.CURRENT
        (deployment,) = (await town.deployments(certificate_id)).values()
        assert (deployment.status, deployment.version_id) == (DeploymentStatus.VERIFIED, version.id)
        found = await town.jobs(certificate_id=certificate_id)
        assert {job.status for job in found} == {JobStatus.COMPLETED}
        assert len(found) == 2
        kinds = [kind for kind, _, _ in await told(town, certificate_id)]
        assert sorted(kinds) == sorted(set(kinds)), "each is told once"
        for job in found:
            ended = await rows_of(town, steps, "kind", "status", job_id=job.id)
            assert {status for _, status in ended} == {StepStatus.DONE}
            assert sorted(kind for kind, _ in ended) == sorted(_KINDS[job.type])
    # the same bytes again at most, never another serial
    assert len(set(signed)) == 3


async def test_a_group_costs_a_few_statements_however_many_are_in_it(town: World):
    if town.ctx.database.dialect != "postgresql":
        return  # SQLite is asked within the process
    sent: list[str] = []

    def listen(_conn, _cursor, statement, _parameters, _context, _many):
        sent.append(" ".join(statement.split())[:70])

    engine = town.ctx.database.engine.sync_engine
    numbers = []
    hosts, _ = await hosts_of(town, 14)
    sa.event.listen(engine, "before_cursor_execute", listen)
    try:
        for some in (hosts[:2], hosts[2:]):
            items = await one_each(some)
            sent.clear()
            await bring(town, some, items)
            # the CA of this world drafts one by one, and looks for its generation each time
            csr = len([each for each in sent if "ca_certificates" not in each and "issuing" not in each])
            receipts = [host.receipt(item) for host, item in zip(some, await one_each(some), strict=True)]
            sent.clear()
            await deploy.report_all(town.ctx, receipts)
            applied = len(sent)
            looks = [host.look(item) for host, item in zip(some, await one_each(some), strict=True)]
            sent.clear()
            await verify.report_all(town.ctx, looks)
            numbers.append((csr, applied, len(sent)))
    finally:
        sa.event.remove(engine, "before_cursor_execute", listen)
    few, many = numbers
    assert many[1:] == few[1:], sent
    assert many[0] - few[0] <= 12, "of each member nothing is asked but its CA"
    assert few[1] <= 3, numbers
    assert few[2] <= 22, numbers


async def test_agents_that_ask_at_the_same_time_each_get_their_own_steps(town: World):
    """By one commit, no more than their share each; a second poll, a new run and a retired agent ask alone."""
    hosts, _ = await hosts_of(town, 4)
    for host in hosts:
        await flow.work_for(town.ctx, host.record, "boot-1", 0)
        host.record = msgspec.structs.replace(host.record, boot_id="boot-1")
    for number in range(2):
        target = await town.target(hosts[0], f"more{number}")
        await town.request(target, name=f"more{number}.example")
    while claimed := await flow.claim(town.ctx, 20):
        await flow.run_claimed(town.ctx, claimed)
    gone = msgspec.structs.replace(hosts[3].record, retired_at=town.clock.moment)
    async with town.ctx.database.begin("test") as tx:
        await catalogue.change(tx, town.ctx.scope, AgentRecord, gone.id, retired_at=gone.retired_at)
    first, second, again, other_run, left = polls = [
        flow.Poll(hosts[0].record, "boot-1"),
        flow.Poll(hosts[1].record, "boot-1"),
        flow.Poll(hosts[0].record, "boot-1"),
        flow.Poll(hosts[2].record, "boot-2"),
        flow.Poll(hosts[3].record, "boot-1"),
    ]
    found = await flow.work_for_all(town.ctx, 2, polls)
    assert set(found) == {first, second}
    assert [len(found[poll]) for poll in (first, second)] == [2, 1]
    for poll, items in found.items():
        for item in items:
            assert item.certificate_id
            rows = await rows_of(town, steps, "agent_id", "lease_owner", "status", "fence", "attempts", id=item.step_id)
            agent_id = poll.agent.id
            assert rows == [(agent_id, f"agent:{agent_id}:boot-1", "leased", item.fence, item.attempt)]
    assert not {again, other_run, left} & set(found)
    (rest,) = await flow.work_for(town.ctx, hosts[0].record, "boot-1", 10)
    assert rest.step_id not in {item.step_id for item in found[first]}
    assert await flow.work_for_all(town.ctx, 2, [first, second]) == {first: [], second: []}
    members = await csrs.intend(town.ctx, [hosts[0].csr(found[first][0]), hosts[1].csr(found[second][0])])
    assert all(members), "what was claimed together is held under its fence"
