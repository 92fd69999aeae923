"""The sample fleet: real chains, a seal that holds, rows that the lifecycle's own rules agree with, and marks on all
that nobody has seen. On both databases.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from certctl import settings
from certctl.bootstrap import open_house
from certctl.client import Client, calls
from certctl.control import teams
from certctl.core.errors import Conflict
from certctl.core.secret import Secret
from certctl.core.status import AgentStatus, CertificateStatus
from certctl.ledger import seal, verification
from certctl.lifecycle import standing
from certctl.pki.chain import verify_chain
from certctl.pki.pem import read_certificates
from certctl.sample import MARK, estate, fill
from certctl.sample.plan import HISTORY, Fate, make_plan
from certctl.store import authority, schema

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SIZE = 60
SEED = 3


class PowerFailure(Exception):
    """The fill is cut off."""


def house(directory, database_url, clock):
    environ = {
        "CERTCTL_DATA_DIR": str(directory),
        "CERTCTL_DATABASE_URL": database_url,
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "a sample's config key, of 40 characters.",
    }
    return open_house(settings.load(environ), clock)


def one_fill(ctx, clock, known, tell=lambda _what, _done, _of: None):
    return fill.Fill(ctx, clock, known, lambda host_id: Secret(f"cta_{host_id}"), tell)


async def rows(ctx, table, *where):
    async with ctx.database.read() as tx:
        return (await tx.execute(sa.select(table).where(*where))).mappings().all()


def test_the_same_seed_is_the_same_fleet():
    one, same, other = (make_plan(seed, 400, NOW) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    large = make_plan(1, 3000, NOW)
    assert {life.fate for life in large.lives} == set(Fate)
    assert {cycle.life.id for cycle in large.cycles} == {life.id for life in large.lives}, "each was issued once"
    assert large.waiting


async def test_a_fleet_is_true_to_its_ca_its_rules_and_its_log(tmp_path, database_url):
    clock = fill.MovingClock(NOW - HISTORY - timedelta(days=20))
    async with house(tmp_path, database_url, clock) as opened:
        ctx = opened.ctx
        known = await fill.begin(ctx, SEED, SIZE, NOW)

        def cut_off(_what, done, of):
            if done > of // 2:
                raise PowerFailure

        with pytest.raises(PowerFailure):
            await one_fill(ctx, clock, known, cut_off).run()
        known = await fill.begin(ctx, SEED, SIZE, NOW + timedelta(hours=1))
        assert known.done > 0
        assert not known.is_whole
        with pytest.raises(Conflict, match="ask for the same"):
            await fill.begin(ctx, SEED, SIZE + 1, NOW)
        filled = one_fill(ctx, clock, known)
        await filled.run()
        clock.moment = NOW + timedelta(seconds=1)
        assert (await fill.begin(ctx, SEED, SIZE, NOW)).is_whole
        await _chains_hold(ctx, filled.plan)
        await _rows_are_what_the_rules_say(ctx, filled.plan)
        await _everything_is_marked(ctx, filled.plan)
        while await seal.seal(ctx.database, ctx.scope, ctx.keybox, clock.moment):
            pass
        stands = await seal.read_seal(ctx.database, ctx.scope, ctx.keybox)
        found = await verification.verify(ctx.database, ctx.scope, stands.verifier_key, clock.moment, whole=True)
        assert not found.broken
        assert found.size > 10 * SIZE


async def _chains_hold(ctx, plan):
    versions = await rows(ctx, schema.versions, schema.versions.c.holder_id != "external")
    assert {row["id"] for row in versions} == {cycle.version_id for cycle in plan.cycles}
    async with ctx.database.read() as tx:
        root = next(ca for ca in await authority.ca_certificates_of(tx, ctx.scope, "iss-local") if ca.kind == "root")
    assert len({row["ca_certificate_id"] for row in versions}) == 3
    assert {"ECDSA", "RSA"} <= {row["key_algorithm"] for row in versions}
    for row in versions:
        chain = read_certificates(row["chain_pem"])
        verify_chain(row["leaf_der"], tuple(chain), root.certificate_der, row["created_at"])
    orders = await rows(ctx, schema.orders)
    assert {row["job_id"] for row in orders} == {row["job_id"] for row in versions}


async def _rows_are_what_the_rules_say(ctx, plan):
    """What the fill wrote at once, the scheduler's own look would not change."""
    served = [life.id for life in plan.lives if life.fate is Fate.SERVED]
    before = {row["id"]: row for row in await rows(ctx, schema.certificates)}
    async with ctx.database.begin("test") as tx:
        for each in served:
            await standing.refresh(tx, ctx, each)
    after = {row["id"]: row for row in await rows(ctx, schema.certificates)}
    for each in served:
        for name in ("status", "status_reason", "expires_at", "next_check_at"):
            assert before[each][name] == after[each][name], (each, name)
    assert {row["status"] for row in after.values()} >= {
        CertificateStatus.ACTIVE,
        CertificateStatus.REVOKED,
        CertificateStatus.PENDING,
    }
    waiting = [row for row in await rows(ctx, schema.approvals) if row["state"] == "pending"]
    assert len(waiting) == 2


async def _everything_is_marked(ctx, plan):
    """Nobody saw it: whoever reads the log, a sight or a receipt is told so."""
    sights = await rows(ctx, schema.observations)
    assert sights
    assert {row["observed_by"] for row in sights} == {MARK}
    done = [row for row in await rows(ctx, schema.deployments) if row["receipt"] is not None]
    assert done
    assert all(row["receipt"]["sample"] is True for row in done)
    unmarked = [row for row in await rows(ctx, schema.events) if row["request_id"] != MARK]
    # the installation's own first event alone: it has a CA
    assert {row["type"] for row in unmarked} == {"ca_created"}
    hosts = await rows(ctx, schema.agents)
    assert {row["version"] for row in hosts} == {MARK}
    assert {row["status"] for row in hosts} == {AgentStatus.ONLINE, AgentStatus.OFFLINE}
    assert any(row["retired_at"] for row in hosts)
    assert len(hosts) == len(plan.hosts)


async def test_samples_are_never_written_beside_what_is_somebodys(tmp_path, database_url):
    clock = fill.MovingClock(NOW)
    async with house(tmp_path, database_url, clock) as opened:
        await teams.create(opened.ctx, opened.ctx.scope, estate.PEOPLE, {"name": "real people"})
        with pytest.raises(Conflict, match="in use"):
            await fill.begin(opened.ctx, SEED, SIZE, NOW)
        assert await fill.remembered(opened.ctx) is None


def test_the_command_fills_tells_where_to_look_and_plays_the_hosts(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    directory, told = tmp_path / "d", tmp_path / "told"
    command = [sys.executable, "-m", "certctl.cli.main", "demo", "--fleet", "--data-dir", str(directory)]
    with told.open("wb") as out:
        running = subprocess.Popen([*command, "--certificates", "40"], env=environ, stdout=out, stderr=out)
    try:
        until(lambda: "hosts are played" in told.read_text(), running, told)
        memory = json.loads((directory / "demo.json").read_text())
        url = f"https://localhost:{memory['ports']['api']}"
        assert f"dashboard       {url}/" in told.read_text()
        plan = make_plan(1, 40, NOW)
        name = next(life.name for life in plan.lives if life.fate is Fate.SERVED and _is_heard_of(life))
        with Client(url, Secret(memory["api_key"]), directory / "server" / "ca.pem") as client:
            known = next(client.each(calls.CERTIFICATES, q=name))
            before = {version.id for version in client.send(calls.list_versions(known.id)).data}
            client.send(calls.renew_certificate(known.id))
            until(lambda: _is_proved(client, known.id, before), running, told)
    finally:
        running.terminate()
        running.wait(60)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", memory["ports"]["api"])), "its server has ended with it"


def _is_heard_of(life):
    return life.places and all(place.host.silent_since is None for place in life.places)


def _is_proved(client, certificate_id, before):
    """A host that is played has renewed it and put it in its place."""
    fresh = {version.id for version in client.send(calls.list_versions(certificate_id)).data} - before
    jobs = client.each(calls.JOBS, certificate_id=certificate_id, type="Deployment")
    return any(job.version_id in fresh and job.verification_status == "success" for job in jobs)


def until(done, running, told, seconds=180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return
        assert running.poll() is None, told.read_text()
        time.sleep(0.2)
    raise AssertionError(told.read_text())
