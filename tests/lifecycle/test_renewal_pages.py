"""The renewal tick looks at pages of certificates: what is decided of each is as if it were looked at alone."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa

from certctl.core.catalogue import Profile
from certctl.core.errors import Temporary
from certctl.core.events import EventType
from certctl.core.status import CertificateStatus, JobType
from certctl.lifecycle import renew
from certctl.store import catalogue, certificates, schema, standings
from lifecycle.world import World

_FLEET, _FORBIDDEN, _BROKEN = 6, 2, 4


@pytest.mark.parametrize("together", [1, 4])
async def test_a_page_decides_as_one_by_one_and_one_fault_holds_up_nobody(town: World, monkeypatch, together):
    monkeypatch.setattr(renew, "_TOGETHER", together)
    host = await town.host("web-1")
    asked = [
        await town.request(await town.target(host, f"nginx {each}"), name=f"n{each}.example") for each in range(_FLEET)
    ]
    await town.settle()
    host.online = False
    ids = [each.id for each in asked]
    async with town.ctx.database.begin("test.faults") as tx:
        strict = await catalogue.get(tx, town.ctx.scope, Profile, "prof-default")
        strict = msgspec.structs.replace(
            strict, id="prof-strict", name="strict", required_san_patterns=["*.inside.example"]
        )
        await catalogue.insert(tx, town.ctx.scope, strict)
        for at, changed in (
            (_FORBIDDEN, {"certificate_profile_id": "prof-strict"}),
            (_BROKEN, {"renewal_policy_id": "rp-gone"}),
        ):
            await certificates.change_certificate(tx, town.ctx.scope, ids[at], town.ctx.now(), **changed)
    town.clock.moment += timedelta(days=64)

    looked = await renew.tick_all(town.ctx)
    assert looked >= _FLEET, "all of them were due"
    jobs = await town.jobs(type=JobType.RENEWAL)
    fine = [each for at, each in enumerate(ids) if at not in (_FORBIDDEN, _BROKEN)]
    assert sorted(job.certificate_id for job in jobs) == sorted(fine), "each once, and only those that may"
    versions = {each: (await town.versions(each))[-1] for each in fine}
    for job in jobs:
        assert job.body["replaces_id"] == versions[job.certificate_id].id
        assert job.body["reason"] == "window_has_begun"
        assert job.idempotency_key == (
            f"renew/{job.certificate_id}/{host.record.id}/{versions[job.certificate_id].id}/0"
        )
    for each in fine:
        shown = await town.certificate(each)
        assert (shown.status, shown.failures) == (CertificateStatus.RENEWAL_IN_PROGRESS, 0)
        assert shown.next_check_at is not None and shown.next_check_at > town.clock.moment
    forbidden = await town.certificate(ids[_FORBIDDEN])
    assert (forbidden.status, forbidden.failures) == (CertificateStatus.FAILED, 1)
    assert forbidden.status_reason.startswith("renewal cannot be requested: ")
    assert forbidden.last_failure_at == town.clock.moment
    assert forbidden.next_check_at is not None and forbidden.next_check_at > town.clock.moment
    broken = await town.certificate(ids[_BROKEN])
    assert broken.status_reason.startswith("its renewal cannot be decided: ") and "rp-gone" in broken.status_reason
    assert broken.next_check_at == town.clock.moment + timedelta(hours=1)

    told = await _told(town, EventType.RENEWAL_JOB_FAILED)
    assert sorted(told) == sorted([ids[_FORBIDDEN], ids[_BROKEN]])
    assert sorted(await _told(town, EventType.RENEWAL_JOB_CREATED)) == sorted(fine)
    assert await renew.tick_all(town.ctx) == 0, "nothing is due at this moment any more"
    host.online = True
    await town.settle()
    assert [len(await town.versions(each)) for each in fine] == [2] * len(fine)


async def test_a_database_that_is_away_is_told_as_such(town: World, monkeypatch):
    """Not as a bug of two lanes: the schedule warns of it and looks again."""

    async def away(*_: object) -> None:
        raise Temporary("the database is away")

    monkeypatch.setattr(standings, "due", away)
    with pytest.raises(Temporary, match="is away"):
        await renew.tick_all(town.ctx)


async def _told(town: World, kind: EventType) -> list[str]:
    async with town.ctx.database.read() as tx:
        return list(
            (await tx.execute(sa.select(schema.events.c.subject_id).where(schema.events.c.type == kind))).scalars()
        )
