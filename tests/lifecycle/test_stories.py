"""The stories of a certificate, told with a held clock on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography import x509

from certctl.core.certificate import Certificate
from certctl.core.errors import Conflict, Malformed, PolicyDenied
from certctl.core.status import CertificateStatus, DeploymentStatus, JobStatus, JobType, VersionStatus
from certctl.lifecycle import deploy, publish, renew, request, revoke
from certctl.store import schema
from lifecycle.world import PERSON, World


async def test_issued_deployed_and_proved(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx on web-1")
    asked = await town.request(target, sans=["www.shop.example", "10.0.0.7"])
    assert asked.status == CertificateStatus.PENDING
    await town.settle()

    certificate = await town.certificate(asked.id)
    (version,) = await town.versions(asked.id)
    assert certificate.status == CertificateStatus.ACTIVE
    assert certificate.expires_at == version.not_after
    assert version.status == VersionStatus.CURRENT
    assert host.serves[target.id] == version.fingerprint_sha256
    deployment = (await town.deployments(asked.id))[target.id]
    assert deployment.status == DeploymentStatus.VERIFIED
    assert deployment.observed_fingerprint == version.fingerprint_sha256
    assert certificate.last_deployment_at is not None
    assert {job.status for job in await town.jobs()} == {JobStatus.COMPLETED}


@pytest.mark.parametrize(
    ("life", "hop"),
    [
        (timedelta(hours=1), timedelta(minutes=2)),
        (timedelta(days=6), timedelta(hours=5)),
        (timedelta(days=47), timedelta(days=1)),
        (timedelta(days=365), timedelta(days=5)),
    ],
    ids=["1-hour", "6-day", "47-day", "1-year"],
)
async def test_every_lifetime_renews_in_time(town: World, life, hop):
    async with town.ctx.database.begin("test.profile") as tx:
        from certctl.core.catalogue import Profile
        from certctl.store import catalogue

        await catalogue.change(tx, town.ctx.scope, Profile, "prof-default", max_ttl_seconds=400 * 86400)
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target, validity_seconds=int(life.total_seconds()))
    await town.settle()
    rounds = 3
    await town.live(life * rounds, hop)

    versions = await town.versions(asked.id)
    # a third of the life is left at each renewal: about 1.5 versions a life, never a storm
    assert rounds <= len(versions) <= 2 * rounds + 1
    for older, newer in zip(versions, versions[1:], strict=False):
        assert newer.created_at < older.not_after, "renewed after it had expired"
        assert newer.created_at > older.created_at + life / 3, "renewed far too early"
        assert newer.replaces_id == older.id
    assert host.serves[target.id] == versions[-1].fingerprint_sha256
    assert (await town.certificate(asked.id)).status in {CertificateStatus.ACTIVE, CertificateStatus.EXPIRING}


async def _issued(town: World, **more) -> tuple[Certificate, object, object]:
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target, **more)
    await town.settle()
    return await town.certificate(asked.id), host, target


async def test_ca_down_for_a_week_and_back(town: World):
    certificate, host, target = await _issued(town, validity_seconds=30 * 86400)
    issuer = await town.issuer()
    await town.live(timedelta(days=19), timedelta(days=1))
    issuer.down = True
    await town.live(timedelta(days=7), timedelta(minutes=30))

    stuck = await town.certificate(certificate.id)
    assert stuck.status in {CertificateStatus.FAILED, CertificateStatus.RENEWAL_IN_PROGRESS}
    assert "does not answer" in stuck.status_reason
    assert len(await town.versions(certificate.id)) == 1
    asked = await town.jobs(type="Renewal")
    assert len(asked) < 60, "a CA that is down is asked patiently"

    issuer.down = False
    await town.live(timedelta(days=1), timedelta(minutes=30))
    back = await town.certificate(certificate.id)
    assert back.status == CertificateStatus.ACTIVE
    assert back.failures == 0
    versions = await town.versions(certificate.id)
    assert len(versions) == 2
    assert host.serves[target.id] == versions[-1].fingerprint_sha256
    assert len({version.serial_number for version in versions}) == 2


async def test_agent_off_for_two_days(town: World):
    certificate, host, target = await _issued(town, validity_seconds=6 * 86400)
    await town.live(timedelta(days=3, hours=20), timedelta(hours=1))
    host.online = False
    await town.live(timedelta(days=1, hours=12), timedelta(hours=1))

    (waiting,) = await town.jobs(type="Renewal")
    assert waiting.status == JobStatus.AWAITING_CSR
    shown = await town.certificate(certificate.id)
    assert shown.status == CertificateStatus.RENEWAL_IN_PROGRESS
    from certctl.core.target import AgentRecord
    from certctl.store import catalogue

    async with town.ctx.database.read() as tx:
        agent = await catalogue.get(tx, town.ctx.scope, AgentRecord, host.record.id)
    assert agent.status == "Offline"

    await town.live(timedelta(hours=12), timedelta(hours=1))
    host.online = True
    await town.settle()
    versions = await town.versions(certificate.id)
    assert len(versions) == 2
    assert host.serves[target.id] == versions[-1].fingerprint_sha256
    assert (await town.certificate(certificate.id)).status == CertificateStatus.ACTIVE


async def test_a_wrong_answer_is_never_recorded(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    issuer = await town.issuer()
    issuer.wrong = True
    asked = await town.request(target)
    await town.settle()

    certificate = await town.certificate(asked.id)
    assert certificate.status == CertificateStatus.FAILED
    assert "another public key" in certificate.status_reason
    assert await town.versions(asked.id) == []
    assert host.serves == {}
    (job,) = await town.jobs(type="Issuance")
    assert (job.status, job.error_kind) == (JobStatus.FAILED, "trust_error")

    issuer.wrong = False
    await town.live(timedelta(hours=2), timedelta(minutes=5))
    assert (await town.certificate(asked.id)).status == CertificateStatus.ACTIVE
    assert len(host.serves) == 1


async def test_rollback_to_an_older_version(town: World):
    certificate, host, target = await _issued(town)
    await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id)
    await town.settle()
    first, second = await town.versions(certificate.id)
    assert host.serves[target.id] == second.fingerprint_sha256

    await deploy.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, version_id=first.id)
    await town.settle()
    assert host.serves[target.id] == first.fingerprint_sha256
    current = await town.current(certificate.id)
    assert current[host.record.id].id == first.id
    assert (await town.certificate(certificate.id)).expires_at == first.not_after
    assert (await town.deployments(certificate.id))[target.id].version_id == first.id


async def test_a_deployment_that_fails_is_seen_and_can_be_asked_for_again(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    host.broken.add(target.id)
    asked = await town.request(target)
    await town.settle()
    deployment = (await town.deployments(asked.id))[target.id]
    assert (deployment.status, deployment.error) == (DeploymentStatus.FAILED, "reload failed")
    (job,) = await town.jobs(type="Deployment")
    assert job.status == JobStatus.FAILED

    host.broken.clear()
    await deploy.trigger(town.ctx, town.ctx.scope, PERSON, asked.id)
    await town.settle()
    assert (await town.deployments(asked.id))[target.id].status == DeploymentStatus.VERIFIED


async def test_a_receipt_that_shows_something_else_is_not_green(town: World):
    certificate, host, target = await _issued(town)
    real = host._verify

    async def lying_server(item):
        host.serves[target.id] = "00" * 32
        await real(item)

    host._verify = lying_server
    await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id)
    await town.live(timedelta(hours=4), timedelta(minutes=5))
    deployment = (await town.deployments(certificate.id))[target.id]
    assert deployment.status == DeploymentStatus.DRIFTED
    job = (await town.jobs(type="Deployment"))[-1]
    assert (job.status, job.verification_status) == (JobStatus.FAILED, "failed")


async def test_revoke_and_replace(town: World):
    certificate, host, target = await _issued(town)
    (first,) = await town.versions(certificate.id)
    await revoke.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, reason="keyCompromise", replace=True)
    ca = await publish.find_ca(town.ctx, first.ca_certificate_id)
    crl = await publish.current_crl(town.ctx, ca.id)
    assert crl.revoked_count == 1
    await town.settle()

    old, new = await town.versions(certificate.id)
    assert (old.status, new.status) == (VersionStatus.REVOKED, VersionStatus.CURRENT)
    assert old.spki_sha256 != new.spki_sha256, "a compromised key is never certified again"
    assert host.serves[target.id] == new.fingerprint_sha256
    assert (await town.certificate(certificate.id)).status == CertificateStatus.ACTIVE
    (job,) = await town.jobs(type="Revocation")
    assert job.status == JobStatus.COMPLETED


async def test_a_crl_forgets_what_has_ended_one_crl_after_its_end(town: World):
    """RFC 5280 3.3; OCSP goes on telling it, and old CRLs do not pile up."""
    certificate, _, _ = await _issued(town, validity_seconds=6 * 86400)
    (version,) = await town.versions(certificate.id)
    await revoke.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, reason="superseded")
    await town.settle()
    serial = int(version.serial_number, 16)

    async def listed() -> tuple[bool, int]:
        made = await publish.current_crl(town.ctx, version.ca_certificate_id)
        crl = x509.load_der_x509_crl(made.crl_der)
        assert made.revoked_count == 1
        return crl.get_revoked_certificate_by_serial_number(serial) is not None, made.number

    assert (await listed())[0]
    await town.live(version.not_after - town.clock.moment + timedelta(hours=1), timedelta(hours=6))
    is_listed, before = await listed()
    assert is_listed, "it has ended, and stands on the CRL that follows"
    await town.live(timedelta(days=3), timedelta(hours=6))
    is_listed, after = await listed()
    assert not is_listed
    assert after > before
    async with town.ctx.database.read() as tx:
        of_it = schema.crls.c.ca_certificate_id == version.ca_certificate_id
        kept = (await tx.execute(sa.select(schema.crls.c.number).where(of_it))).scalars().all()
    assert sorted(kept) == [after - 1, after]
    known = await publish.speaker(town.ctx, await publish.find_ca(town.ctx, version.ca_certificate_id))
    assert (await publish.statuses(town.ctx, known, [serial]))[serial].revoked_at is not None


async def test_a_replacement_replaces_what_its_holder_had(town: World):
    """Older versions that are still valid are revoked along with it; the new one is linked to the newest of them."""
    certificate, _, _ = await _issued(town)
    await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id)
    await town.settle()
    await revoke.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, reason="superseded", replace=True)
    await town.settle()
    first, second, third = await town.versions(certificate.id)
    assert (first.status, second.status, third.status) == (
        VersionStatus.REVOKED,
        VersionStatus.REVOKED,
        VersionStatus.CURRENT,
    )
    assert (second.replaces_id, third.replaces_id) == (first.id, second.id)


async def test_revoked_for_good(town: World):
    certificate, host, target = await _issued(town)
    issuer = await town.issuer()
    issuer.down = True
    await revoke.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, reason="cessationOfOperation")
    await town.live(timedelta(hours=1), timedelta(minutes=10))
    assert (await town.jobs(type="Revocation"))[0].status == JobStatus.PENDING
    issuer.down = False
    await town.live(timedelta(days=200), timedelta(days=20))

    revoked = await town.certificate(certificate.id)
    assert (revoked.status, revoked.revocation_reason) == (CertificateStatus.REVOKED, "cessationOfOperation")
    assert len(await town.versions(certificate.id)) == 1, "what is revoked is not renewed"
    assert (await town.jobs(type="Revocation"))[0].status == JobStatus.COMPLETED


async def test_one_certificate_on_two_hosts(town: World):
    hosts = [await town.host("web-1"), await town.host("web-2")]
    targets = [await town.target(host, f"nginx {host.record.name}") for host in hosts]
    asked = await town.request(*targets, validity_seconds=6 * 86400)
    await town.settle()

    current = await town.current(asked.id)
    assert set(current) == {host.record.id for host in hosts}
    assert len({version.spki_sha256 for version in current.values()}) == 2, "each host has a key of its own"
    for host, target in zip(hosts, targets, strict=True):
        assert host.serves[target.id] == current[host.record.id].fingerprint_sha256
    await town.live(timedelta(days=6), timedelta(hours=3))
    renewed = await town.current(asked.id)
    for host, target in zip(hosts, targets, strict=True):
        assert renewed[host.record.id].id != current[host.record.id].id
        assert host.serves[target.id] == renewed[host.record.id].fingerprint_sha256

    await revoke.trigger(town.ctx, town.ctx.scope, PERSON, asked.id)
    await town.settle()
    assert {version.status for version in await town.versions(asked.id) if version.not_after > town.clock.moment} == {
        VersionStatus.REVOKED
    }


async def test_one_host_down_does_not_hold_up_the_other(town: World):
    hosts = [await town.host("web-1"), await town.host("web-2")]
    targets = [await town.target(host, f"nginx {host.record.name}") for host in hosts]
    hosts[1].online = False
    asked = await town.request(*targets)
    await town.settle()
    assert hosts[0].serves
    assert not hosts[1].serves
    hosts[1].online = True
    await town.settle()
    assert hosts[1].serves[targets[1].id] == (await town.current(asked.id))[hosts[1].record.id].fingerprint_sha256


async def test_what_the_profile_forbids_is_refused_and_nothing_is_written(town: World):
    async with town.ctx.database.begin("test.profile") as tx:
        from certctl.core.catalogue import Profile
        from certctl.store import catalogue

        await catalogue.change(tx, town.ctx.scope, Profile, "prof-default", required_san_patterns=["*.inside.example"])
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    with pytest.raises(PolicyDenied) as refused:
        await town.request(target, name="shop.outside.example", validity_seconds=400 * 86400)
    rules = {violation.rule for violation in refused.value.violations}
    assert {"name_is_outside_the_profile", "lifetime_exceeds_the_profile"} <= rules
    assert await town.jobs() == []


async def test_one_issuance_at_a_time(town: World):
    certificate, host, _ = await _issued(town)
    host.online = False
    (job,) = await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id)
    with pytest.raises(Conflict, match="force"):
        await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id)
    (forced,) = await renew.trigger(town.ctx, town.ctx.scope, PERSON, certificate.id, force=True)
    assert forced.id != job.id
    host.online = True
    await town.settle()
    assert len(await town.versions(certificate.id)) == 2
    statuses = {one.id: one.status for one in await town.jobs(type=JobType.RENEWAL)}
    assert statuses == {job.id: JobStatus.CANCELLED, forced.id: JobStatus.COMPLETED}


async def test_archived_is_left_alone(town: World):
    certificate, _, _ = await _issued(town)
    await request.archive(town.ctx, town.ctx.scope, PERSON, certificate.id)
    await town.live(timedelta(days=120), timedelta(days=10))
    assert len(await town.versions(certificate.id)) == 1
    assert (await town.certificate(certificate.id)).status == CertificateStatus.ARCHIVED


async def test_a_target_carries_one_certificate(town: World):
    certificate, _, target = await _issued(town)
    with pytest.raises(Malformed, match=certificate.id):
        await town.request(target, name="other.example")
    await request.archive(town.ctx, town.ctx.scope, PERSON, certificate.id)
    other = await town.request(target, name="other.example")
    await town.settle()
    assert (await town.deployments(other.id))[target.id].status == DeploymentStatus.VERIFIED
    assert (await town.deployments(certificate.id))[target.id].status == DeploymentStatus.SUPERSEDED


async def test_an_edited_policy_decides_anew(town: World):
    from certctl.control import renewal_policies

    certificate, _, _ = await _issued(town, validity_seconds=30 * 86400)
    await town.live(timedelta(days=2), timedelta(days=1))
    assert len(await town.versions(certificate.id)) == 1
    before = (await town.certificate(certificate.id)).next_check_at
    assert before > town.clock.moment + timedelta(days=10)
    await renewal_policies.update(
        town.ctx, town.ctx.scope, PERSON, "rp-default", {"renewal_window_days": 29, "renewal_window_fraction": None}
    )
    async with town.ctx.database.begin("test.policy") as tx:
        from certctl.core.catalogue import RenewalPolicy
        from certctl.store import catalogue

        policy = await catalogue.get(tx, town.ctx.scope, RenewalPolicy, "rp-default")
    assert policy.renewal_window_days == 29
    assert (await town.certificate(certificate.id)).next_check_at == town.clock.moment
    await town.settle()
    assert (await town.certificate(certificate.id)).next_check_at > town.clock.moment


async def test_a_mapped_host_without_a_key_gets_one_and_an_unmapped_one_is_left(town: World):
    certificate, first, target = await _issued(town)
    second = await town.host("web-2")
    other = await town.target(second, "nginx on web-2")
    changes = request.CertificateChanges(target_ids=[target.id, other.id])
    await request.update(town.ctx, town.ctx.scope, PERSON, certificate.id, changes)
    await town.settle()
    assert second.serves[other.id] == (await town.current(certificate.id))[second.record.id].fingerprint_sha256
    await request.update(
        town.ctx, town.ctx.scope, PERSON, certificate.id, request.CertificateChanges(target_ids=[other.id])
    )
    await town.live(timedelta(days=90), timedelta(days=5))
    of_first = [version for version in await town.versions(certificate.id) if version.holder_id == first.record.id]
    assert len(of_first) == 1, "a host that serves nothing is not renewed for"


async def test_a_deployment_that_was_given_up_is_tried_again_until_the_host_is_mended(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    host.broken.add(target.id)
    asked = await town.request(target)
    await town.live(timedelta(hours=8), timedelta(minutes=5))
    tried = await town.jobs(type="Deployment")
    assert {job.status for job in tried} == {JobStatus.FAILED}
    assert 3 <= len(tried) <= 10, "patiently, but again and again"
    host.broken.clear()
    await town.live(timedelta(hours=7), timedelta(minutes=5))
    assert (await town.deployments(asked.id))[target.id].status == DeploymentStatus.VERIFIED
    settled = len(await town.jobs(type="Deployment"))
    await town.live(timedelta(days=1), timedelta(hours=1))
    assert len(await town.jobs(type="Deployment")) == settled


async def test_nobody_renews_for_a_client_that_holds_its_key(town: World):
    from certctl.pki.algorithms import KeyAlgorithm
    from certctl.pki.csr import build_csr, csr_pem
    from certctl.pki.keys import generate_private_key

    def csr() -> str:
        return csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), "mail.example", ()))

    asked = await town.request(name="mail.example", csr_pem=csr(), validity_seconds=6 * 86400)
    await town.settle()
    assert (await town.certificate(asked.id)).status == CertificateStatus.ACTIVE
    await town.live(timedelta(days=5), timedelta(hours=6))
    assert (await town.certificate(asked.id)).status == CertificateStatus.EXPIRING
    await request.submit_csr(town.ctx, town.ctx.scope, PERSON, asked.id, csr())
    await town.settle()
    assert (await town.certificate(asked.id)).status == CertificateStatus.ACTIVE
    await town.live(timedelta(days=7), timedelta(hours=6))
    assert (await town.certificate(asked.id)).status == CertificateStatus.EXPIRED
    assert len(await town.versions(asked.id)) == 2
    assert {job.status for job in await town.jobs()} == {JobStatus.COMPLETED}


async def test_a_cancelled_deployment_is_not_tried_again(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target)
    host.serves["keep"] = "online only for the key"
    await renew.tick(town.ctx)
    from certctl.lifecycle import flow

    while claimed := await flow.claim(town.ctx, 20):
        await flow.run_claimed(town.ctx, claimed)
    (item,) = await flow.work_for(town.ctx, host.record, "boot-1", 10)
    await host.do(item)
    host.online = False
    (job,) = await town.jobs(type="Deployment")
    await request.cancel(town.ctx, town.ctx.scope, PERSON, job.id)
    host.online = True
    await town.live(timedelta(days=2), timedelta(hours=2))
    assert (await town.deployments(asked.id))[target.id].status == DeploymentStatus.SUPERSEDED
    assert [one.status for one in await town.jobs(type="Deployment")] == [JobStatus.CANCELLED]


async def test_a_request_changed_after_approval_is_void(town: World):
    from certctl.lifecycle import flow
    from certctl.store import jobs

    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target)
    while claimed := await flow.claim(town.ctx, 20):
        await flow.run_claimed(town.ctx, claimed)
    (job,) = await town.jobs(type="Issuance")
    assert job.status == JobStatus.AWAITING_CSR
    async with town.ctx.database.begin("test.tamper") as tx:
        body = job.body | {"names": [*job.body["names"], "dns:admin.shop.example"]}
        await jobs.note_job(tx, town.ctx.scope, job.id, body=body)
    await town.settle()
    (job,) = await town.jobs(type="Issuance")
    assert (job.status, job.error_kind) == (JobStatus.FAILED, "trust_error")
    assert "after it was approved" in job.last_error
    assert await town.versions(asked.id) == []


async def test_files_that_no_server_was_seen_to_serve_are_not_green(town: World):
    from certctl.lifecycle import deploy as deploy_stage

    host = await town.host("web-1")
    target = await town.target(host, "files")
    real = deploy_stage.report

    async def by_files(ctx, agent, actor, job_id, said, **more):
        if said.receipt is not None:
            said.receipt["seen_by"] = "files"
        return await real(ctx, agent, actor, job_id, said, **more)

    deploy_stage.report = by_files
    try:
        asked = await town.request(target)
        await town.settle()
    finally:
        deploy_stage.report = real
    deployment = (await town.deployments(asked.id))[target.id]
    assert deployment.status == DeploymentStatus.APPLIED
    (job,) = await town.jobs(type="Deployment")
    assert (job.status, job.verification_status) == (JobStatus.COMPLETED, "skipped")
    assert "no server was looked at" in job.verification_error


async def frozen(town: World, **more) -> None:
    from certctl.control import renewal_policies

    await renewal_policies.update(town.ctx, town.ctx.scope, PERSON, "rp-default", more)


async def test_a_freeze_holds_back_what_can_wait(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target, validity_seconds=90 * 86400)
    await town.settle()
    now = town.ctx.now()
    begins, ends = now + timedelta(days=55), now + timedelta(days=80)
    await frozen(town, freezes=[{"name": "year end", "starts_at": begins.isoformat(), "ends_at": ends.isoformat()}])
    await town.live(timedelta(days=79), timedelta(days=1))
    held = await town.certificate(asked.id)
    assert len(await town.versions(asked.id)) == 1
    assert (held.status, held.next_check_at) == (CertificateStatus.EXPIRING, ends)
    assert held.status_reason == f"freeze year end holds its renewal back until {ends:%Y-%m-%d %H:%M} UTC"
    # a person may renew all the same
    await renew.trigger(town.ctx, town.ctx.scope, PERSON, asked.id)
    await town.settle()
    assert len(await town.versions(asked.id)) == 2


async def test_what_would_end_within_a_freeze_is_renewed_all_the_same(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target, validity_seconds=90 * 86400)
    await town.settle()
    now = town.ctx.now()
    begins, ends = now + timedelta(days=50), now + timedelta(days=89)
    await frozen(town, freezes=[{"name": "long", "starts_at": begins.isoformat(), "ends_at": ends.isoformat()}])
    await town.live(timedelta(days=75), timedelta(days=1))
    assert len(await town.versions(asked.id)) == 2
    (renewed,) = [job for job in await town.jobs() if job.type == JobType.RENEWAL]
    assert renewed.body["reason"] == "window_has_begun_and_it_cannot_wait_for_the_calendar"


async def test_renewals_run_within_their_windows(town: World):
    host = await town.host("web-1")
    target = await town.target(host, "nginx")
    asked = await town.request(target, validity_seconds=90 * 86400)
    await town.settle()
    await frozen(town, renewal_windows=[{"days": ["sun"], "start": "02:00", "end": "04:00"}])
    await town.live(timedelta(days=60), timedelta(days=10))
    await town.live(timedelta(days=11), timedelta(hours=2))
    second = (await town.versions(asked.id))[1]
    assert (second.created_at.strftime("%a"), second.created_at.hour in {2, 3}) == ("Sun", True)
