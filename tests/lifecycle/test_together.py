"""What many clients ask for at the same time comes to what it would have come to one by one, by two commits."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from certctl.core.catalogue import Profile
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError, Conflict, Malformed, PolicyDenied, StaleFence, Temporary
from certctl.core.names import parse_names
from certctl.core.status import JobStatus, StepKind, StepStatus, VersionStatus
from certctl.doors.issuing import Issuing
from certctl.lifecycle import flow, request, together
from certctl.lifecycle.together import Member, Wish
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store import audit, catalogue, certificates, issuances
from certctl.store.schema import certificate_names, orders, steps
from certctl.telemetry import points
from lifecycle.dying import Died, dying_at
from lifecycle.world import PERSON, World

_KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)


def csr_of(name: str, key=_KEY) -> str:
    return csr_pem(build_csr(key, name, parse_names([name])))


def asked(name: str, /, **more) -> request.NewCertificate:
    return request.NewCertificate(**({"common_name": name, "csr_pem": csr_of(name)} | more))


def wish(town: World, name: str, witness=None, /, **more) -> Wish:
    return Wish(scope=town.ctx.scope, actor=PERSON, wanted=asked(name, **more), witness=witness)


async def issue(town: World, *wishes: Wish) -> list:
    found = await together.intend(town.ctx, wishes)
    await together.finish(town.ctx, [one for one in found if isinstance(one, Member)])
    return found


async def alone(town: World, name: str, /, **more) -> Certificate:
    own = flow.driving(town.ctx)
    made, (job,) = await request.create(own, town.ctx.scope, PERSON, asked(name, **more))
    await flow.drive(own, job.id)
    return await town.certificate(made.id)


async def told(town: World) -> dict[str, list[audit.EventRow]]:
    found: dict[str, list[audit.EventRow]] = {}
    async with town.ctx.database.read() as tx:
        for row in await audit.events_after(tx, town.ctx.scope, (0, 0), 10_000):
            found.setdefault(row.subject_id, []).append(row)
    return found


async def steps_of(town: World, job_id: str) -> list[tuple[str, str, int, str, int]]:
    async with town.ctx.database.read() as tx:
        c = steps.c
        found = sa.select(c.kind, c.status, c.fence, c.lease_owner, c.attempts).where(c.job_id == job_id)
        return [tuple(row) for row in await tx.execute(found.order_by(c.created_at, c.id))]


async def orders_of(town: World, job_id: str) -> list[tuple[str, bool]]:
    async with town.ctx.database.read() as tx:
        found = sa.select(orders.c.status, orders.c.leaf_der).where(orders.c.job_id == job_id)
        return [(status, leaf_der is not None) for status, leaf_der in await tx.execute(found)]


async def found_by(town: World, certificate_id: str) -> list[tuple[str, str]]:
    async with town.ctx.database.read() as tx:
        c = certificate_names.c
        rows = await tx.execute(sa.select(c.kind, c.value).where(c.certificate_id == certificate_id))
        return sorted(tuple(row) for row in rows)


async def counted(town: World) -> dict[str, float]:
    async with town.ctx.database.read() as tx:
        from certctl.store.schema import counter_deltas as d

        rows = await tx.execute(sa.select(d.c.name, sa.func.sum(d.c.amount)).group_by(d.c.name))
        return {name: amount for name, amount in rows if "seconds" not in name}


ROW = ("status", "status_reason", "expires_at", "next_check_at", "last_renewal_at", "failures", "row_version", "source")


async def test_a_group_comes_to_what_each_would_have_come_to_alone(town: World):
    single = await alone(town, "alone.example")
    before = await counted(town)
    found = await issue(town, *(wish(town, f"n{number}.example") for number in range(7)))
    after = await counted(town)
    events, (of_single,) = await told(town), await town.jobs(certificate_id=single.id)
    (single_version,) = await town.versions(single.id)
    for number, member in enumerate(found):
        row = await town.certificate(member.certificate.id)
        assert member.certificate == row, "what is answered is what stands"
        assert [getattr(row, name) for name in ROW] == [getattr(single, name) for name in ROW]
        assert (row.common_name, row.sans) == (f"n{number}.example", [f"n{number}.example"])
        (job,) = await town.jobs(certificate_id=row.id)
        assert job.status == JobStatus.COMPLETED
        assert set(job.body) == set(of_single.body)
        for name in job.__struct_fields__:
            if name not in {"id", "certificate_id", "body", "version_id", "idempotency_key"}:
                assert getattr(job, name) == getattr(of_single, name), name
        (version,) = await town.versions(row.id)
        assert version == member.version or version.status == VersionStatus.CURRENT
        assert (version.id, version.status) == (job.version_id, VersionStatus.CURRENT)
        assert version.chain_pem == single_version.chain_pem
        assert await orders_of(town, job.id) == [("recorded", True)]
        assert await steps_of(town, job.id) == await steps_of(town, of_single.id)
        assert [(each.type, each.actor, each.request_id, set(each.details)) for each in events[row.id]] == [
            (each.type, each.actor, each.request_id, set(each.details)) for each in events[single.id]
        ]
        kinds = [kind for kind, _ in await found_by(town, row.id)]
        assert kinds == [kind for kind, _ in await found_by(town, single.id)]
    assert {name: after[name] - before[name] for name in before} == {name: 7 * before[name] for name in before}


async def test_a_group_is_two_commits_and_a_dozen_statements_however_many_are_in_it(town: World):
    await alone(town, "warm.example")
    sent: list[str] = []

    def listen(_conn, _cursor, statement, _parameters, _context, _many):
        sent.append(" ".join(statement.split())[:60])

    engine = town.ctx.database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", listen)
    commits: list[str] = []
    try:
        numbers = []
        for size in (2, 20):
            sent.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(points, "hook", lambda name: commits.append(name) if name.endswith(".before") else None)
                await issue(town, *(wish(town, f"s{size}-{number}.example") for number in range(size)))
            # the CA of this world drafts one by one, and looks for its generation each time
            numbers.append(len([each for each in sent if "ca_certificates" not in each and "issuing" not in each]))
    finally:
        sa.event.remove(engine, "before_cursor_execute", listen)
    assert [name for name in commits if name.startswith("commit.")] == [
        "commit.together.intent.before",
        "commit.together.record.before",
    ] * 2
    if town.ctx.database.dialect == "postgresql":
        assert numbers[0] <= 12, sent
        assert numbers[1] - numbers[0] <= 20, "of each member nothing is asked but its CA"


async def test_who_breaks_a_rule_takes_nobody_along_and_is_told_what_is_told_alone(town: World):
    """200 callers at once, one in ten is wrong, each in one of five ways."""
    await alone(town, "taken.example", name="taken")
    weak = generate_private_key(KeyAlgorithm.RSA_2048)
    async with town.ctx.database.begin("test") as tx:
        rules = [{"algorithm": "ECDSA", "min_size": 256}]
        await catalogue.change(tx, town.ctx.scope, Profile, "prof-default", allowed_key_algorithms=rules)
    wrong = {
        0: {"name": "taken"},
        1: {"csr_pem": "no CSR"},
        2: {"owner_id": "o-nobody"},
        3: {"validity_seconds": 50 * 365 * 86400},
    }
    expected = {0: Conflict, 1: Malformed, 2: Malformed, 3: PolicyDenied}
    door = Issuing(town.ctx)

    async def call(number: int):
        more = wrong.get(number // 10 % 5, {"csr_pem": csr_of(f"c{number}.example", weak)}) if number % 10 == 0 else {}
        one = asked(f"c{number}.example", **more)
        member = await door.ask(town.ctx.scope, PERSON, one)
        if member is not None:
            return member
        own = flow.driving(town.ctx)
        made, (job,) = await request.create(own, town.ctx.scope, PERSON, one)
        await flow.drive(own, job.id, timedelta(minutes=1))
        return made.id

    found = await asyncio.gather(*(call(number) for number in range(200)), return_exceptions=True)
    for number, one in enumerate(found):
        if number % 10:
            assert isinstance(one, Member), (number, one)
            assert one.version is not None
            assert one.certificate.common_name == f"c{number}.example"
        elif number // 10 % 5 in expected:
            with pytest.raises(expected[number // 10 % 5]) as by_itself:
                await alone(town, f"c{number}.example", **wrong[number // 10 % 5])
            assert type(one) is type(by_itself.value)
            assert _said(one) == _said(by_itself.value)
            assert getattr(one, "violations", ()) == getattr(by_itself.value, "violations", ())
        else:  # a key that its profile does not take: its job says so
            (job,) = await town.jobs(certificate_id=one)
            assert job.status == JobStatus.FAILED
    numbers = Counter(type(one).__name__ for one in found)
    assert numbers == {"Member": 180, "Conflict": 4, "Malformed": 8, "PolicyDenied": 4, "str": 4}
    assert len((await town.issuer()).submitted) == 181


async def test_two_of_one_name_in_one_group_are_one_certificate_and_one_conflict(town: World):
    first, second, third = await issue(
        town, *(wish(town, name) for name in ("one.example", "one.example", "two.example"))
    )
    assert second is None
    assert first.version is not None
    assert third.version is not None
    with pytest.raises(Conflict, match="already exists"):
        await alone(town, "one.example")


async def test_what_another_process_was_faster_with_is_a_conflict_of_its_own(town: World, monkeypatch):
    """It is found by the commit: nothing of the group is written, and each goes alone."""
    await alone(town, "faster.example")

    async def free(_tx, _scope, _wanted):
        return set(), set()

    monkeypatch.setattr(issuances, "taken", free)
    found = await issue(town, wish(town, "mine.example"), wish(town, "faster.example"))
    assert found == [None, None]
    async with town.ctx.database.read() as tx:
        assert await certificates.ids_by_name(tx, town.ctx.scope, ["mine.example"]) == {}
    assert await town.jobs(certificate_id="mine.example") == []
    assert (await alone(town, "mine.example")).status == "Active"


async def test_each_witness_is_asked_before_the_one_commit_and_any_can_stop_it(town: World):
    seen: list[tuple[str, str]] = []

    async def witness(tx) -> None:
        seen.extend(tx.subjects)

    async def lost(_tx) -> None:
        raise StaleFence("another has the key")

    found = await issue(
        town, wish(town, "a.example", witness), wish(town, "b.example"), wish(town, "c.example", witness)
    )
    assert seen == [("certificate", found[0].certificate.id), ("certificate", found[2].certificate.id)]
    assert await issue(town, wish(town, "d.example"), wish(town, "e.example", lost)) == [None, None]
    async with town.ctx.database.read() as tx:
        assert await certificates.ids_by_name(tx, town.ctx.scope, ["d.example", "e.example"]) == {}


async def test_what_people_approve_or_is_warned_of_or_is_to_be_deployed_goes_alone(town: World):
    async with town.ctx.database.begin("test") as tx:
        await catalogue.change(tx, town.ctx.scope, Profile, "prof-default", requires_approval=True)
    assert await issue(town, wish(town, "people.example")) == [None]
    assert not together.may_go(asked("host.example", target_ids=["t-1"]))
    assert not together.may_go(asked("host.example", csr_pem=""))
    assert await town.jobs() == []


async def test_a_database_that_is_away_is_told_to_all(town: World, monkeypatch):
    async def away(*_args):
        raise Temporary("the database cannot be reached")

    monkeypatch.setattr(issuances, "intend", away)
    door = Issuing(town.ctx)
    found = await asyncio.gather(
        *(door.ask(town.ctx.scope, PERSON, asked(f"t{number}.example")) for number in range(3)), return_exceptions=True
    )
    assert [type(one) for one in found] == [Temporary] * 3


async def test_a_wrong_answer_in_a_group_is_kept_and_no_version(town: World):
    moody = await town.issuer()
    found = await together.intend(town.ctx, [wish(town, f"w{number}.example") for number in range(3)])
    real = moody.submit

    async def wrong_for_one(order):
        moody.wrong = order.common_name == "w1.example"
        return await real(order)

    moody.submit = wrong_for_one
    await together.finish(town.ctx, found)
    assert [member.version is not None for member in found] == [True, False, True]
    (job,) = await town.jobs(certificate_id=found[1].certificate.id)
    assert job.status == JobStatus.FAILED
    assert await orders_of(town, job.id) == [("rejected", True)]
    assert [step[:2] for step in await steps_of(town, job.id)][2:] == [
        (StepKind.ISSUE, StepStatus.DONE),
        (StepKind.RECORD, StepStatus.FAILED),
    ]


async def test_a_ca_that_is_down_is_asked_again_for_the_same_orders(town: World):
    moody = await town.issuer()
    moody.down = True
    found = await issue(town, *(wish(town, f"d{number}.example") for number in range(3)))
    assert [member.version for member in found] == [None] * 3
    moody.down = False
    town.clock.moment += timedelta(hours=1)
    await town.settle()
    for member in found:
        assert await orders_of(town, member.made.job.id) == [("recorded", True)]
        (version,) = await town.versions(member.certificate.id)
        assert version.serial_number == member.order.record.serial_number


async def test_a_step_that_was_taken_away_records_nothing_and_the_others_do(town: World):
    found = await together.intend(town.ctx, [wish(town, f"f{number}.example") for number in range(3)])
    await request.cancel(town.ctx, town.ctx.scope, PERSON, found[0].made.job.id)
    await together.finish(town.ctx, found)
    assert [member.version is not None for member in found] == [False, True, True]
    assert await town.versions(found[0].certificate.id) == []
    (job,) = await town.jobs(certificate_id=found[0].certificate.id)
    assert job.status == JobStatus.CANCELLED
    late = await together.intend(town.ctx, [wish(town, "late.example"), wish(town, "later.example")])
    town.clock.moment += town.ctx.patience.lease + timedelta(seconds=1)
    await flow.free_lapsed(town.ctx)
    other = replace(town.ctx, owner="server:other")
    claimed = await flow.claim(other, 1)
    await together.finish(town.ctx, late)
    # one had passed on and was claimed, of the other the lease had lapsed: neither is ours
    assert [member.version for member in late] == [None, None]
    await flow.run_claimed(other, claimed)
    await town.settle()
    for member in late:
        (version,) = await town.versions(member.certificate.id)
        assert version.serial_number == member.order.record.serial_number, "the stored bytes, and no others"


async def test_a_row_that_was_changed_meanwhile_keeps_what_it_says(town: World):
    """Its name and owner are as somebody has just written them, and a target mapped to it gets the version."""
    host = await town.host("h1")
    target = await town.target(host, "t1")
    found = await together.intend(town.ctx, [wish(town, f"e{number}.example") for number in range(3)])
    changed = request.CertificateChanges(tags={"said": "meanwhile"})
    await request.update(town.ctx, town.ctx.scope, PERSON, found[0].certificate.id, changed)
    mapped = request.CertificateChanges(target_ids=[target.id])
    await request.update(town.ctx, town.ctx.scope, PERSON, found[1].certificate.id, mapped)
    await together.finish(town.ctx, found)
    rows = [await town.certificate(member.certificate.id) for member in found]
    assert rows[0].tags == {"said": "meanwhile"}
    assert [row.status for row in rows[::2]] == ["Active", "Active"]
    await town.settle()
    assert {each.holder_id for each in (await town.versions(rows[1].id))} >= {"client"}


POINTS = (
    "commit.together.intent.before",
    "commit.together.intent.after",
    "issue.asking",
    "issue.answered",
    "commit.together.record.before",
    "commit.together.record.after",
)


async def test_wherever_a_process_dies_each_of_a_group_comes_to_one_version_or_was_never_asked(
    town: World, monkeypatch
):
    names: dict[str, list[str]] = {}
    for number, point in enumerate(POINTS):
        names[point] = [f"p{number}-{each}.example" for each in range(3)]
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(points, "hook", dying_at(point))
            await issue(town, *(wish(town, name) for name in names[point]))
    town.clock.moment += town.ctx.patience.lease + timedelta(seconds=1)
    await flow.free_lapsed(town.ctx)
    await town.settle()
    submitted = (await town.issuer()).submitted
    for point, mine in names.items():
        async with town.ctx.database.read() as tx:
            known = await certificates.ids_by_name(tx, town.ctx.scope, mine)
        assert len(known) == (0 if point == POINTS[0] else 3), point
        for certificate_id in known.values():
            (job,) = await town.jobs(certificate_id=certificate_id)
            assert job.status == JobStatus.COMPLETED, point
            assert await orders_of(town, job.id) == [("recorded", True)], point
            (version,) = await town.versions(certificate_id)
            assert version.status == VersionStatus.CURRENT, point
            assert len({order.intent.tbs_der for order in submitted if order.job_id == job.id}) == 1, point


async def test_who_comes_while_a_group_is_out_goes_with_the_next(town: World, monkeypatch):
    sizes: list[int] = []
    real = together.intend

    async def noted(ctx, wishes):
        sizes.append(len(wishes))
        return await real(ctx, wishes)

    monkeypatch.setattr(together, "intend", noted)
    door = Issuing(town.ctx)
    first = asyncio.create_task(door.ask(town.ctx.scope, PERSON, asked("first.example")))
    while not sizes:
        await asyncio.sleep(0)
    later = [
        asyncio.create_task(door.ask(town.ctx.scope, PERSON, asked(f"later{number}.example"))) for number in range(60)
    ]
    gone = later.pop()
    await asyncio.sleep(0)
    gone.cancel()
    found = await asyncio.gather(first, *later)
    assert all(member.version is not None for member in found)
    assert sizes == [1, together.MOST_AT_ONCE, 60 - together.MOST_AT_ONCE]
    async with town.ctx.database.read() as tx:
        # who went away took nothing along, their own certificate included
        assert len(await certificates.ids_by_name(tx, town.ctx.scope, ["later59.example"])) == 1
    assert door._groups._finishing == set()


def _said(error: CertctlError) -> str:
    """Its message, without the id that was chosen for what was refused."""
    return re.sub(r"cert-[0-9a-f-]{36}", "cert-", error.message)
