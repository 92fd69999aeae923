"""Two and three server processes on one PostgreSQL: every tick once, every step once, and each knows at once what another did.

What was done is counted in the database itself (`peers.replicas`: triggers write a journal of fences).
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from peers.replicas import Replica, Replicas, csr_for, replicas

pytestmark = [pytest.mark.xdist_group("replicas"), pytest.mark.timeout(400)]

CERTIFICATES, REVOKED = 60, 20


@pytest.fixture(scope="module")
def house(tmp_path_factory, postgres_server) -> Iterator[Replicas]:
    """Two replicas at first; a test that wants three adds one. Leases are long: whatever a journal shows twice was doubled."""
    with replicas(tmp_path_factory.mktemp("replicas"), postgres_server) as made:
        for _ in range(2):
            grow(made)
        yield made


def grow(house: Replicas) -> None:
    house.add(
        CERTCTL_STEP_LEASE="60s",
        CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL="500ms",
        CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL="1s",
        CERTCTL_CRL_GENERATION_INTERVAL="2s",
        # a long poll is answered by a wake-up or not at all within this test's patience
        POLL_BENEATH_SECONDS="600",
    )


def issue(house: Replicas, prefix: str, number: int) -> str:
    """Ask one of the replicas, in turn, for a certificate of a key that the client holds."""
    asked = house.all[number % len(house.all)]
    name = f"{prefix}-{number}"
    body = {"id": name, "common_name": f"{name}.example", "csr_pem": csr_for(f"{name}.example")}
    asked.did("POST", "/api/v1/certificates", body, house.key)
    return name


@pytest.mark.parametrize("count", [2, 3])
def test_every_step_is_done_once_and_every_tick_runs_once_a_period(house, count):
    while len(house.all) < count:
        grow(house)
    begun = house.count("FROM step_log"), house.count("FROM tick_log")
    prefix = f"load{count}"
    with ThreadPoolExecutor(3 * count) as pool:
        made = list(pool.map(lambda number: issue(house, prefix, number), range(CERTIFICATES)))
        mine = f"certificate_id LIKE '{prefix}-%'"
        house.all[0].wait(
            lambda: house.count(f"FROM certificate_versions WHERE {mine} AND status = 'current'") == CERTIFICATES,
            "every certificate is issued",
        )
        revoked = list(
            pool.map(
                lambda number: house.all[(number + 1) % count].did(
                    "POST", f"/api/v1/certificates/{made[number]}/revoke", {"reason": "superseded"}, house.key
                ),
                range(REVOKED),
            )
        )
    assert len(revoked) == REVOKED
    house.all[0].wait(
        lambda: not house.count("FROM steps WHERE status IN ('ready', 'leased')"), "every step has come to its end"
    )
    judge_steps(house, begun[0], count)
    judge_effects(house, mine)
    ticked(house, begun[1])
    judge_ticks(house, begun[1])


def judge_steps(house: Replicas, begun: int, count: int) -> None:
    """Each step: made, leased to one at a time, done once, or written with its result. Every replica had a hand in it."""
    seen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    owners = Counter()
    for step, status, fence, owner in house.rows(
        f"SELECT id, status, fence, owner FROM step_log WHERE n > {begun} ORDER BY n"
    ):
        seen[step].append((status, fence))
        if status == "leased":
            owners[owner] += 1
    wrong = {step: told for step, told in seen.items() if not is_done_once(told)}
    assert not wrong, f"{len(wrong)} of {len(seen)} steps were not done exactly once: {list(wrong.items())[:3]}"
    assert len(seen) >= 4 * CERTIFICATES
    assert len(owners) == count, f"not every replica worked: {owners}"
    assert not house.count("FROM steps WHERE attempts <> fence OR error <> ''")


def is_done_once(told: list[tuple[str, str]]) -> bool:
    """Made ready, or leased to whoever drives its job (ADR 33); passed on only when its holder gave it back; done once."""
    if told == [("done", "1")]:
        return True  # in the commit of what it led to
    states = told[1:] if told[0] == ("ready", "0") else list(told)
    fence = 1
    while states[:2] == [("leased", str(fence)), ("ready", str(fence))]:
        states, fence = states[2:], fence + 1
    return states == [("leased", str(fence)), ("done", str(fence))]


def judge_effects(house: Replicas, mine: str) -> None:
    """One intent, one version, one job of each kind, one event of each kind a certificate; every serial its own."""
    of = f"(SELECT count(*) n FROM {{}} WHERE {mine} GROUP BY certificate_id{{}})"
    for table, also, times in (("certificate_versions", "", 1), ("jobs", ", type", 1)):
        told = house.rows(f"SELECT n, count(*) FROM {of.format(table, also)} AS each GROUP BY n")
        assert {n for n, _ in told} == {str(times)}, f"{table}: {told}"
    assert house.rows(f"SELECT type, status, count(*) FROM jobs WHERE {mine} GROUP BY 1, 2 ORDER BY 1") == [
        ("Issuance", "Completed", str(CERTIFICATES)),
        ("Revocation", "Completed", str(REVOKED)),
    ]
    assert house.count(f"FROM orders WHERE job_id IN (SELECT id FROM jobs WHERE {mine})") == CERTIFICATES
    assert not house.rows("SELECT serial_number FROM orders GROUP BY serial_number HAVING count(*) > 1")
    for kind, number in (("certificate_issued", CERTIFICATES), ("certificate_revoked", REVOKED)):
        told = house.rows(
            "SELECT n, count(*) FROM (SELECT count(*) n FROM audit_events e JOIN managed_certificates c ON c.id = e.subject_id "
            f"WHERE e.type = '{kind}' AND c.{mine.replace('certificate_id', 'id')} GROUP BY e.subject_id) AS each GROUP BY n"
        )
        assert told == [("1", str(number))], f"{kind}: {told}"


# what the fleet of this test is told to do every second or less; longer periods may not come round twice
QUICK = {"leases", "renew", "observe", "publish"}


def ticked(house: Replicas, begun: int) -> None:
    """Wait until each quick tick came round a few times: a fast machine is done with the load before."""
    for name in sorted(QUICK):
        since = f"FROM tick_log WHERE name = '{name}' AND n > {begun}"
        house.all[0].wait(lambda since=since: house.count(since) >= 3, f"{name} came round")


def judge_ticks(house: Replicas, begun: int) -> None:
    """Fences without a gap or a double, and never two runs within one period."""
    taken: dict[str, list[tuple[int, datetime, datetime]]] = defaultdict(list)
    for name, fence, taken_at, next_at in house.rows(
        f"SELECT name, fence, taken_at, next_at FROM tick_log WHERE n > {begun} ORDER BY n"
    ):
        taken[name].append((int(fence), datetime.fromisoformat(taken_at), datetime.fromisoformat(next_at)))
    assert set(taken) >= QUICK
    for name, runs in taken.items():
        assert len(runs) > 1 or name not in QUICK, f"{name} ran once at most"
        for (fence, _, next_at), (later, taken_at, _) in zip(runs, runs[1:], strict=False):
            assert later == fence + 1, f"{name} was taken twice, or without a trace"
            assert taken_at >= next_at, f"{name} ran twice within a period"


def test_a_wake_up_crosses_processes(house):
    """A long poll at one replica is answered when another makes the work: nothing beneath would answer it in time."""
    first, second = house.all[0], house.all[1]
    token = first.did("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": "far"}, house.key)["token"]
    agent = second.did("POST", "/api/v1/agents", {"name": "far", "hostname": "far.test"}, token)
    found: list[dict] = []

    def poll() -> None:
        path = f"/api/v1/agents/{agent['id']}/work?wait=60&boot_id=boot-1"
        found.extend(second.call("GET", path, key=agent["credential"], timeout=90).json()["jobs"])

    waiting = threading.Thread(target=poll, daemon=True)
    waiting.start()
    # its first look has found nothing once the agent was seen
    second.wait(lambda: house.count("FROM agents WHERE boot_id = 'boot-1'"), "the agent waits at the second replica")
    config = {"cert_path": "/srv/tls/c.pem", "key_path": "/srv/tls/k.pem", "endpoint": "127.0.0.1:443"}
    target = {"name": "far", "type": "NGINX", "agent_id": agent["id"], "config": config}
    target_id = first.did("POST", "/api/v1/targets", target, house.key)["id"]
    body = {"id": "cert-far", "common_name": "far.example", "target_ids": [target_id]}
    first.did("POST", "/api/v1/certificates", body, house.key)
    waiting.join(90)
    assert [(item["certificate_id"], item["step_kind"]) for item in found] == [("cert-far", "prepare")]
    first.did("DELETE", f"/api/v1/agents/{agent['id']}?force=true&reason=test", None, house.key)


def test_what_one_replica_changes_the_others_obey_at_once(house):
    """Issuers, profiles and revocations are never answered from memory: asked elsewhere the moment the change is answered.

    A key that was taken away is known for less than a second (`doors/callers.py`): its hint races the next call.
    """
    first, *others = house.all
    profile = {"id": "prof-hours", "name": "Hours", "max_ttl_seconds": 3600, "allowed_ekus": ["serverAuth"]}
    first.did("POST", "/api/v1/profiles", profile, house.key)
    for round_ in range(3):
        made = first.did("POST", "/api/v1/auth/keys", {"name": f"viewer-{round_}", "role_ids": ["r-viewer"]}, house.key)
        assert {listed_by(each, made["key_value"]) for each in others} == {200}
        first.did("DELETE", f"/api/v1/auth/keys/{made['id']}", None, house.key)
        for each in others:
            each.wait(lambda each=each: listed_by(each, made["key_value"]) == 401, "the key is refused")  # noqa: B023 - waited for here
        first.did("PUT", "/api/v1/issuers/iss-local", {"enabled": False}, house.key)
        for number, each in enumerate(others):
            name = f"off{round_}{number}.example"
            body = {"id": f"cert-off-{round_}-{number}", "common_name": name, "csr_pem": csr_for(name)}
            refused = each.call("POST", "/api/v1/certificates", body, house.key)
            assert refused.status_code >= 400, "an issuer that is switched off was used"
        first.did("PUT", "/api/v1/issuers/iss-local", {"enabled": True}, house.key)
        first.did("PUT", "/api/v1/profiles/prof-hours", {"max_ttl_seconds": 3600 * (round_ + 1)}, house.key)
        shown = [each.did("GET", "/api/v1/profiles/prof-hours", None, house.key) for each in others]
        assert {one["max_ttl_seconds"] for one in shown} == {3600 * (round_ + 1)}
        name = f"seen{round_}.example"
        body = {"id": f"cert-seen-{round_}", "common_name": name, "csr_pem": csr_for(name), "validity_seconds": 3600}
        first.did("POST", "/api/v1/certificates", body, house.key)
        issued = f"FROM certificate_versions WHERE certificate_id = 'cert-seen-{round_}' AND status = 'current'"
        first.wait(lambda issued=issued: house.count(issued), "it is issued")
        first.did("POST", f"/api/v1/certificates/cert-seen-{round_}/revoke", {"reason": "keyCompromise"}, house.key)
        for each in others:
            judge_revoked(house, each, f"cert-seen-{round_}")


def listed_by(replica: Replica, key: str) -> int:
    return replica.call("GET", "/api/v1/certificates", key=key).status_code


def judge_revoked(house: Replicas, replica, certificate_id: str) -> None:
    ((serial, ca_id, leaf, issuer),) = house.rows(
        "SELECT v.serial_number, v.ca_certificate_id, encode(v.leaf_der, 'hex'), encode(c.certificate_der, 'hex') "
        f"FROM certificate_versions v JOIN ca_certificates c ON c.id = v.ca_certificate_id WHERE certificate_id = '{certificate_id}'"
    )
    crl = x509.load_der_x509_crl(replica.pki(f"crl/{ca_id}"))
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None, "the CRL does not tell it yet"
    asked = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(
            x509.load_der_x509_certificate(bytes.fromhex(leaf)),
            x509.load_der_x509_certificate(bytes.fromhex(issuer)),
            hashes.SHA1(),
        )
        .build()
        .public_bytes(serialization.Encoding.DER)
    )
    import base64
    from urllib.parse import quote

    told = ocsp.load_der_ocsp_response(replica.pki(f"ocsp/{ca_id}/{quote(base64.b64encode(asked), safe='')}"))
    assert told.certificate_status == ocsp.OCSPCertStatus.REVOKED
