"""CRLs of many: encoded once, joined, made the less often the longer they are; whole certificates revoked by the hundred.

Each on both databases. The library and `openssl crl` read what was written.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
import subprocess
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.x509 import ocsp

from certctl.control import batches as control_batches
from certctl.core.actor import SYSTEM
from certctl.core.errors import Malformed, StaleFence
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, VersionStatus
from certctl.doors import batches as door
from certctl.lifecycle import publish, revoke
from certctl.lifecycle.crl_parts import Parts, encode_revoked
from certctl.policy.revocation import MADE_AT_ONCE, crl_pause
from certctl.protocols.pki import PkiApp, answers
from certctl.protocols.pki.answers import KeptAnswers, KeptStatuses, RevocationWatch
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.store import authority, crl, schema
from certctl.store.tx import WITNESS
from integration.api_house import open_api

MANY = 2_600
WHOLE_KEY = {
    True: r" \(tenant_id=\? AND ca_certificate_id=\? AND listed_number=\?\)",
    False: r"[^)]*Index Cond: \(\(.*listed_number IS NULL\)\)",
}
SERIAL = 1 << 127


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def ca_of(api):
    async with api.house.database.read() as tx:
        (ca,) = await authority.signing_cas(tx, api.house.ctx.scope)
    return ca.id


async def seed(api, ca_id, count, first=0, status=VersionStatus.REVOKED):
    """So many revocations (with another status: certificates to be revoked), ending on ten days, in the tables themselves."""
    now, tenant = api.clock.now(), api.house.ctx.scope.tenant_id
    numbers = range(first, first + count)
    own = {"tenant_id": tenant, "issuer_id": "iss-local"}
    versions = [
        own
        | {
            "id": f"mcv-{n}",
            "certificate_id": f"mc-{n}",
            "job_id": f"job-seed-{n}",
            "holder_id": "client",
            "ca_certificate_id": ca_id,
            "serial_number": f"{SERIAL + n:x}",
            "status": status,
            "fingerprint_sha256": f"{n:064x}",
            "not_before": now - timedelta(days=1),
            "not_after": now + timedelta(days=n % 10 + 1),
            "leaf_der": b"",
            "csr_der": b"",
            "created_at": now,
        }
        for n in numbers
    ]
    async with api.house.database.begin("seed") as tx:
        await tx.execute(sa.insert(schema.versions), versions)
        if status == VersionStatus.REVOKED:
            facts = [
                own
                | {
                    "id": f"rev-{n}",
                    "certificate_id": f"mc-{n}",
                    "version_id": f"mcv-{n}",
                    "ca_certificate_id": ca_id,
                    "serial_number": f"{SERIAL + n:x}",
                    "reason": ("superseded", "unspecified")[n % 2],
                    "revoked_at": now,
                    "issuer_notified": True,
                }
                for n in numbers
            ]
            await tx.execute(sa.insert(schema.revocations), facts)
        else:
            told = {"environment": "seeded", "status": "Active", "sans": [], "tags": {}, "created_at": now}
            held = {"renewal_policy_id": "rp-default", "certificate_profile_id": "prof-default", "updated_at": now}
            named = [own | told | held | {"id": f"mc-{n}", "name": f"n{n}", "common_name": f"n{n}"} for n in numbers]
            await tx.execute(sa.insert(schema.certificates), named)


def serials_of(crl_der):
    return {entry.serial_number for entry in x509.load_der_x509_crl(crl_der)}


def seeded(numbers):
    return {SERIAL + n for n in numbers}


async def test_a_crl_of_many_is_joined_from_what_was_encoded_once(api, tmp_path):
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await seed(api, ca_id, MANY)
    assert await publish.list_revoked(ctx) == 1
    made = await publish.current_crl(ctx, ca_id)
    assert serials_of(made.crl_der) == seeded(range(MANY))
    assert made.revoked_count == MANY
    read = x509.load_der_x509_crl(made.crl_der)
    entry = read.get_revoked_certificate_by_serial_number(SERIAL)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    assert entry.revocation_date_utc == api.clock.now()
    (tmp_path / "long.crl").write_bytes(made.crl_der)
    (tmp_path / "ca.pem").write_text(await ca_pem(api, ca_id))
    told = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-in", "long.crl", "-CAfile", "ca.pem", "-noout", "-text"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "verify OK" in told.stderr
    assert told.stdout.count("Serial Number:") == MANY
    async with api.house.database.read() as tx:
        chunks = [one async for one in crl.chunks(tx, ctx.scope, ca_id, api.clock.now())]
        assert not await crl.behind(tx, ctx.scope)
    assert sum(one.size for one in chunks) == MANY
    assert max(one.size for one in chunks) <= crl.CHUNK_SIZE


async def ca_pem(api, ca_id):
    async with api.house.database.read() as tx:
        ca = await authority.ca_certificate(tx, api.house.ctx.scope, ca_id)
    return ssl.DER_cert_to_PEM_cert(ca.certificate_der)


async def test_a_long_crl_stands_for_a_while_and_a_short_one_tells_at_once(api):
    ctx, ca_id = api.house.ctx, await ca_of(api)
    facts = LifecycleFacts(ctx)
    await seed(api, ca_id, 3)
    short = await facts.crl("iss-local")
    assert serials_of(short.der) == seeded(range(3)), "nobody but who asked has made it"
    await seed(api, ca_id, MANY, first=3)
    assert await publish.list_revoked(ctx) == 1, "what it was before decides how long it stood"
    long = await facts.crl("iss-local")
    assert long.number > short.number

    await seed(api, ca_id, 1, first=3 + MANY)
    assert await publish.list_revoked(ctx) == 0
    kept = await facts.crl("iss-local")
    assert kept is await facts.crl(ca_id), "read once, and given again"
    assert kept.number == long.number
    assert kept.etag == long.etag
    api.clock.moment += crl_pause(MANY + 4, ctx.patience.crl_pause)
    assert await publish.list_revoked(ctx) == 1
    assert await publish.list_revoked(ctx) == 0
    fresh = await facts.crl("iss-local")
    assert serials_of(fresh.der) == seeded(range(MANY + 4))
    assert fresh.number > long.number
    api.clock.moment = fresh.next_update - timedelta(hours=1)
    again = await facts.crl("iss-local")
    assert again.next_update > fresh.next_update, "no client is given one that is about to end"
    assert again.number > fresh.number


async def test_whoever_dies_after_encoding_leaves_it_to_be_told(api):
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await publish.list_revoked(ctx)
    await seed(api, ca_id, 5)
    await encode_revoked(ctx, ca_id, Parts())  # and dead before the CRL is written
    async with api.house.database.read() as tx:
        assert await crl.behind(tx, ctx.scope) == [ca_id]
    assert await publish.list_revoked(ctx) == 1
    assert serials_of((await publish.current_crl(ctx, ca_id)).crl_der) == seeded(range(5))


async def test_makers_at_once_lose_nothing_and_take_no_number_twice(api):
    ctx, ca_id = api.house.ctx, await ca_of(api)

    async def revoke_and_ask(first):
        await seed(api, ca_id, 2, first=first)
        made = await publish.current_crl(ctx, ca_id)
        assert seeded(range(first, first + 2)) <= serials_of(made.crl_der), "committed before it was asked for"
        return made.number

    async with asyncio.timeout(60):
        await asyncio.gather(*(revoke_and_ask(10 * n) for n in range(5)))
        last = await publish.current_crl(ctx, ca_id)
    assert len(serials_of(last.crl_der)) == 10
    assert last.revoked_count == 10


async def test_one_more_revocation_costs_the_same_however_many_there_are(api):
    ctx, ca_id = api.house.ctx, await ca_of(api)
    engine, said = api.house.database.engine.sync_engine, []

    def note(_connection, _cursor, statement, *_more):
        said.append(" ".join(statement.split()))

    counts = []
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        for first, many in ((0, 10), (20, MANY)):
            await seed(api, ca_id, many, first=first)
            await encode_revoked(ctx, ca_id, Parts())
            await seed(api, ca_id, 1, first=first + many)
            said.clear()
            await encode_revoked(ctx, ca_id, Parts())
            counts.append(list(said))
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert counts[0] == counts[1]


async def test_what_waits_is_found_by_its_index(api):
    """Asked each second, also where a million are told already."""
    ctx, ca_id, asked = api.house.ctx, await ca_of(api), []
    await seed(api, ca_id, 50)
    await publish.list_revoked(ctx)
    engine = api.house.database.engine.sync_engine

    def note(_connection, _cursor, statement, parameters, *_more):
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        async with api.house.database.read() as tx:
            await crl.behind(tx, ctx.scope)
            await crl.state(tx, ctx.scope, ca_id)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    of_sqlite = api.house.database.dialect == "sqlite"
    assert len(asked) == 2
    async with api.house.database.engine.begin() as connection:
        if not of_sqlite:
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        for statement, parameters in asked:
            plan = await connection.exec_driver_sql(
                f"EXPLAIN {'QUERY PLAN ' if of_sqlite else ''}{statement}", tuple(parameters)
            )
            told = str(plan.all())
            # by CA and by being listed: in the partial index, or as the whole key of the other
            assert re.search(rf"revocations_unlisted|revocations_listed{WHOLE_KEY[of_sqlite]}", told), told


@pytest.mark.parametrize(
    ("entries", "seconds"), [(0, 0), (MADE_AT_ONCE, 0), (20_000, 2), (100_000, 10), (1_000_000, 60)]
)
def test_the_longer_a_crl_the_longer_it_stands(entries, seconds):
    assert crl_pause(entries, timedelta(minutes=1)) == timedelta(seconds=seconds)


async def test_whole_certificates_of_our_own_ca_are_revoked_in_a_few_statements(api):
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await seed(api, ca_id, 30, status=VersionStatus.CURRENT)
    engine, said = api.house.database.engine.sync_engine, []
    sa.event.listen(engine, "before_cursor_execute", lambda *seen: said.append(seen[2]))
    names = [f"mc-{n}" for n in range(30)]
    async with api.house.database.begin("test") as tx:
        jobs = await revoke.trigger_own(tx, ctx, ctx.scope, SYSTEM, [*names, "mc-none"], "keyCompromise")
    assert set(jobs) == set(names)
    assert len(said) <= 12, said
    async with api.house.database.read() as tx:
        for table, where in (
            (schema.revocations, schema.revocations.c.issuer_notified.is_(True)),
            (schema.certificates, schema.certificates.c.status == CertificateStatus.REVOKED),
            (schema.versions, schema.versions.c.status == VersionStatus.REVOKED),
            (schema.jobs, sa.and_(schema.jobs.c.type == "Revocation", schema.jobs.c.status == "Completed")),
            (schema.events, schema.events.c.type == "certificate_revoked"),
            (schema.notifications, schema.notifications.c.type == "Revocation"),
        ):
            assert await tx.scalar(sa.select(sa.func.count()).select_from(table).where(where)) == 30, table.name
    shown = await api.get("/api/v1/certificates/mc-7")
    assert (shown["status"], shown["revocation_reason"]) == ("Revoked", "keyCompromise")
    assert (await api.get(f"/api/v1/jobs/{jobs['mc-7'].id}"))["status"] == "Completed"
    assert serials_of((await LifecycleFacts(ctx).crl(ca_id)).der) == seeded(range(30))


async def test_what_cannot_be_revoked_so_is_left_to_the_long_way(api):
    """Out of scope, ended, of somebody else, or with work under way: nothing is written of it, nothing is told of it."""
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await seed(api, ca_id, 6, status=VersionStatus.CURRENT)
    v, c = schema.versions, schema.certificates
    async with api.house.database.begin("test") as tx:
        for number, values in (
            (0, {"not_after": api.clock.now()}),
            (1, {"ca_certificate_id": ""}),
            (2, {"holder_id": "external"}),
        ):
            await tx.execute(sa.update(v).where(v.c.id == f"mcv-{number}").values(values))
        await tx.execute(sa.update(c).where(c.c.id == "mc-3").values(status=CertificateStatus.ARCHIVED))
        await tx.execute(
            sa.insert(schema.jobs).values(
                tenant_id=ctx.scope.tenant_id, id="job-x", type="Deployment", certificate_id="mc-4", status="Running",
                idempotency_key="x", body={}, scheduled_at=api.clock.now(), created_at=api.clock.now(),
            )
        )  # fmt: skip
    everything = [f"mc-{n}" for n in range(6)]
    async with api.house.database.begin("test") as tx:
        nobody = Scope(tenant_id=ctx.scope.tenant_id, reaches=())
        assert await revoke.trigger_own(tx, ctx, nobody, SYSTEM, everything, "") == {}
        assert set(await revoke.trigger_own(tx, ctx, ctx.scope, SYSTEM, everything, "")) == {"mc-5"}
        with pytest.raises(Malformed):
            await revoke.trigger_own(tx, ctx, ctx.scope, SYSTEM, everything, "because")
    assert await publish.list_revoked(ctx) == 1
    assert serials_of((await publish.current_crl(ctx, ca_id)).crl_der) == seeded([5])


async def test_each_answer_during_a_mass_revocation_is_true_of_its_moment(api, monkeypatch):
    """OCSP: the old truth only of what was not committed yet, or less than the watch's bound before the question; the new
    one only of what was. A CRL tells all that was committed before it was asked for, and nothing else.
    """
    ctx, ca_id = api.house.ctx, await ca_of(api)
    monkeypatch.setattr(control_batches, "_CHUNK_TO_REVOKE", 12)
    count, loop = 120, asyncio.get_running_loop()
    await seed(api, ca_id, count, status=VersionStatus.CURRENT)
    watch = RevocationWatch(ctx, api.house.wakeups)
    facts = LifecycleFacts(ctx, KeptStatuses(watch))
    transport = httpx.ASGITransport(PkiApp(facts, clock=ctx.clock, answers=KeptAnswers(watch)))
    seen: dict[int, float] = {}  # when it was visible at the latest
    ended = asyncio.Event()
    asked = {True: 0, False: 0}

    async def committed():
        async with api.house.database.read() as tx:
            found = {int(one, 16) for (one,) in await tx.execute(sa.select(schema.revocations.c.serial_number))}
        for serial in found:
            seen.setdefault(serial, loop.time())
        return found

    async def revoked(http, serial):
        answer = await http.get(f"/.well-known/pki/ocsp/{ca_id}/{serial:x}")
        assert answer.status_code == 200, answer.text
        status = ocsp.load_der_ocsp_response(answer.content).certificate_status
        assert status is not ocsp.OCSPCertStatus.UNKNOWN
        return status is ocsp.OCSPCertStatus.REVOKED

    async def ask(http, numbers):
        while not ended.is_set():
            serial = SERIAL + next(numbers)
            begun, known = loop.time(), seen.get(serial)
            is_revoked = await revoked(http, serial)
            asked[is_revoked] += 1
            if is_revoked:
                assert serial in await committed(), "revoked before its commit"
            else:
                assert known is None or begun - known < answers._TRUSTED_SECONDS, "good long after its commit"

    async def ask_for_crls():
        while not ended.is_set():
            before = await committed()
            told = serials_of((await facts.crl(ca_id)).der)
            assert before <= told <= await committed()

    async def work():
        while await door.take_turn(ctx):
            pass
        ended.set()

    async with httpx.AsyncClient(transport=transport, base_url="http://pki.test") as http, asyncio.timeout(120):
        watching = asyncio.create_task(watch.run())
        everything = itertools.cycle(range(count))
        await watch.look()
        for number in range(0, count, 7):
            assert not await revoked(http, SERIAL + number)
        wanted = {"environment": "seeded", "reason": "keyCompromise"}
        await api.made("/api/v1/certificates/bulk-revoke", wanted, 202, headers={"Prefer": "respond-async"})
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ask(http, everything))
            group.create_task(ask_for_crls())
            group.create_task(work())
        await watch.look()
        for number in range(0, count, 7):
            assert await revoked(http, SERIAL + number)
        watch.stop()
        await watching
    assert asked[True] + asked[False] > 0
    assert serials_of((await facts.crl(ca_id)).der) == seeded(range(count)) == await committed()
    assert len(await api.events("certificate_revoked")) == count


async def test_who_revokes_at_the_same_time_goes_in_one_commit(api, monkeypatch):
    """Each by their own hand: actor, request and Idempotency-Key are the caller's. What cannot go so is told by itself,
    and takes nobody along: unknown, already revoked, twice at once, with work under way.
    """
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await seed(api, ca_id, 30, status=VersionStatus.CURRENT)
    commits, held = [], asyncio.Event()
    commit = revoke._commit_together

    async def slow_at_first(ctx, scope, reason, wishes):
        commits.append(set(wishes))
        if len(commits) == 1:
            await held.wait()
        return await commit(ctx, scope, reason, wishes)

    monkeypatch.setattr(revoke, "_commit_together", slow_at_first)

    def call(number, **more):
        path = f"/api/v1/certificates/mc-{number}/revoke"
        return asyncio.ensure_future(api.call("POST", path, {"reason": "superseded"}, **more))

    first = call(0)
    async with asyncio.timeout(60):
        while not commits:
            await asyncio.sleep(0.01)
    keyed = call(20, headers={"Idempotency-Key": "twenty"})
    others = [call(number) for number in range(1, 20)]
    again = call(5)
    unknown = call("none")
    gone = call(21)
    queue = revoke._together_of(ctx)
    async with asyncio.timeout(60):
        while len(queue._waiting) < 23:
            await asyncio.sleep(0.01)
    gone.cancel()
    held.set()
    answers = await asyncio.gather(first, keyed, *others, again)
    assert [answer.status_code for answer in answers] == [200] * 22, [answer.text for answer in answers]
    assert (await unknown).status_code == 404
    told = await api.events("certificate_revoked")
    assert sorted(event["subject_id"] for event in told) == sorted(f"mc-{number}" for number in range(22))
    assert len({event["request_id"] for event in told}) == 22, "each has the request of its caller"
    assert {event["actor"] for event in told} == {"admin"}
    assert commits[:2] == [{"mc-0"}, {f"mc-{number}" for number in [*range(1, 22), "none"]}]
    replayed = await call(20, headers={"Idempotency-Key": "twenty"})
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.json() == answers[1].json()
    assert serials_of((await LifecycleFacts(ctx).crl(ca_id)).der) == seeded(range(22))


async def test_a_commit_of_many_that_fails_leaves_each_to_go_alone(api, monkeypatch):
    """One whose Idempotency-Key has passed on is refused; nothing of it is written, and the others are revoked."""
    ctx, ca_id = api.house.ctx, await ca_of(api)
    await seed(api, ca_id, 6, status=VersionStatus.CURRENT)

    async def lost(_tx) -> None:
        raise StaleFence("its Idempotency-Key has passed on")

    async def one(number: int) -> object:
        if number == 3:
            WITNESS.set(lost)
        return await revoke.trigger(ctx, ctx.scope, SYSTEM, f"mc-{number}", reason="superseded")

    found = await asyncio.gather(*(one(number) for number in range(6)), return_exceptions=True)
    assert [isinstance(job, StaleFence) for job in found] == [number == 3 for number in range(6)]
    assert serials_of((await LifecycleFacts(ctx).crl(ca_id)).der) == seeded({0, 1, 2, 4, 5})
    with pytest.raises(Malformed):
        await revoke.trigger(ctx, ctx.scope, SYSTEM, "mc-3", reason="because")
