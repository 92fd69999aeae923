"""A replica is cut off from the database, half way through something; the other takes over; the cable is put back.

Real processes in network namespaces of our own. The cut is silent (packets are lost, connections hang half open) or plain (the
link is down). Judged in the database: what the other did, and that nothing is doubled when the cut-off one speaks again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from peers.netns import Host, Network, network
from peers.postgres import postgres
from peers.replicas import Replica, Replicas, csr_for, replicas

pytestmark = [pytest.mark.xdist_group("partition"), pytest.mark.timeout(400)]

LEASE = "6s"


class Town(NamedTuple):
    network: Network
    house: Replicas
    hosts: list[Host]


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Iterator[Town]:
    """PostgreSQL and two replicas, each on a host of its own."""
    with network() as net:
        host = net.add_host()
        hosts = [net.add_host(), net.add_host()]
        with (
            postgres(host.address, host.inside) as server,
            replicas(tmp_path_factory.mktemp("partition"), server) as house,
        ):
            for each in hosts:
                house.add(
                    inside=each.inside,
                    CERTCTL_STEP_LEASE=LEASE,
                    CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL="500ms",
                    POLL_BENEATH_SECONDS="600",
                )
            yield Town(net, house, hosts)


def reached(replica: Replica) -> Path:
    return Path(f"{replica.arm_file}.reached")


def ask(house: Replicas, replica: Replica, name: str) -> None:
    body = {"id": name, "common_name": f"{name}.example", "csr_pem": csr_for(f"{name}.example")}
    replica.call("POST", "/api/v1/certificates", body, house.key)


def ask_in_vain(house: Replicas, replica: Replica, name: str) -> None:
    """The answer may be lost with the replica, or with its cable."""
    with contextlib.suppress(OSError, httpx.HTTPError):
        ask(house, replica, name)


def issued(house: Replicas, name: str) -> bool:
    return house.count(f"FROM certificate_versions WHERE certificate_id = '{name}' AND status = 'current'") == 1


def hold_at(
    house: Replicas, replica: Replica, point: str, mark: str, mode: str = "hold"
) -> tuple[str, threading.Thread]:
    """Let the replica stand still (or die) at a point, in an open transaction; the certificate that it has in hand, if any."""
    reached(replica).unlink(missing_ok=True)
    for number in range(40):
        replica.arm_file.write_text(f"{mode} {point}")
        if point.startswith("commit.tick."):
            replica.wait(reached(replica).exists, f"{point} is passed")
            return "", threading.Thread()
        name = f"{mark}-{number}"
        asking = threading.Thread(target=ask_in_vain, args=(house, replica, name), daemon=True)
        asking.start()
        replica.wait(
            lambda name=name: reached(replica).exists() or issued(house, name),
            f"{point} is passed, or the other did it",
        )
        if reached(replica).exists():
            return name, asking
    raise AssertionError(f"{point} was never passed in the replica")


@pytest.mark.parametrize(
    ("mark", "point", "silently"),
    [
        ("answer", "commit.together.record.before", True),
        ("tick", "commit.tick.before", True),
        ("down", "commit.together.intent.after", False),
    ],
)
def test_the_other_takes_over_and_nothing_is_doubled(town, mark, point, silently):
    house, host = town.house, town.hosts[0]
    cut, other = house.all
    held, asking = hold_at(house, cut, point, mark)
    begun = house.count("FROM tick_log"), house.count("FROM step_log")
    host.cut(silently=silently)
    try:
        Path(f"{cut.arm_file}.go").touch()
        other.wait(
            lambda: not held or issued(house, held), "the other replica finishes what the cut-off one had in hand"
        )
        other.wait(
            lambda: house.count(f"FROM tick_log WHERE name = 'renew' AND n > {begun[0]}") > 2, "it has the ticks"
        )
        for number in range(5):
            ask(house, other, f"{mark}-meanwhile-{number}")
        told = cut.call("GET", "/ready")
        assert (told.status_code, told.json()["db"]) == (503, "unreachable")
        assert cut.call("GET", "/health").status_code == 200
        assert cut.call("GET", "/api/v1/certificates", key=house.key).status_code == 503, "it must answer, and say so"
        other.wait(other.ready, "the other is ready")
    finally:
        host.heal()
        town.network.introduce()
    if held:
        asking.join(60)
    cut.wait(cut.ready, "the replica that was cut off works again")
    ask(house, cut, f"{mark}-after")
    cut.wait(lambda: issued(house, f"{mark}-after"), "it issues")
    cut.wait(lambda: not house.count("FROM steps WHERE status IN ('ready', 'leased')"), "every step has ended")
    judge(house, mark)
    assert not house.rows(
        f"SELECT id FROM step_log WHERE status = 'done' AND n > {begun[1]} GROUP BY id HAVING count(*) > 1"
    ), "a step was done twice"


def test_the_other_takes_over_from_a_dead_one(town):
    """kill -9 with a step in hand, the intent stored and signed: the same bytes are signed again, by the other."""
    house = town.house
    dead, other = house.all
    held, asking = hold_at(house, dead, "commit.together.record.before", "dead", mode="kill")
    other.wait(lambda: issued(house, held), "the other replica finishes it")
    asking.join(60)
    assert dead.process.wait(60) == -9
    dead.start()
    ask(house, dead, "dead-after")
    dead.wait(lambda: issued(house, "dead-after"), "it issues again")
    dead.wait(lambda: not house.count("FROM steps WHERE status IN ('ready', 'leased')"), "every step has ended")
    judge(house, "dead")


def judge(house: Replicas, mark: str) -> None:
    """One intent and one version a request, all completed; what was done under an older fence is not there."""
    mine = f"certificate_id LIKE '{mark}-%'"
    asked = house.count(f"FROM managed_certificates WHERE id LIKE '{mark}-%'")
    assert house.count(f"FROM certificate_versions WHERE {mine}") == asked
    assert house.count(f"FROM orders WHERE job_id IN (SELECT id FROM jobs WHERE {mine})") == asked
    assert house.rows(f"SELECT DISTINCT status FROM jobs WHERE {mine}") == [("Completed",)]
    assert not house.rows("SELECT serial_number FROM orders GROUP BY serial_number HAVING count(*) > 1")
    stale = house.rows(
        "SELECT d.id FROM step_log d JOIN step_log l ON l.id = d.id AND l.fence > d.fence WHERE d.status = 'done'"
    )
    assert not stale, f"done under a fence that had passed on: {stale}"


def test_who_was_cut_off_is_woken_again(town):
    """The cable is back: hints of the other replica reach a long poll at the one that had lost its connection."""
    house = town.house
    was_cut, other = house.all
    was_cut.wait(was_cut.ready, "it is back")
    token = other.did("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": "far"}, house.key)["token"]
    agent = other.did("POST", "/api/v1/agents", {"name": "far", "hostname": "far.test"}, token)
    found: list[dict] = []

    def poll() -> None:
        path = f"/api/v1/agents/{agent['id']}/work?wait=60&boot_id=boot-1"
        found.extend(was_cut.call("GET", path, key=agent["credential"], timeout=90).json()["jobs"])

    waiting = threading.Thread(target=poll, daemon=True)
    waiting.start()
    other.wait(lambda: house.count("FROM agents WHERE boot_id = 'boot-1'"), "the agent waits")
    config = {"cert_path": "/srv/tls/c.pem", "key_path": "/srv/tls/k.pem", "endpoint": "127.0.0.1:443"}
    target = {"name": "far", "type": "NGINX", "agent_id": agent["id"], "config": config}
    target_id = other.did("POST", "/api/v1/targets", target, house.key)["id"]
    other.did(
        "POST",
        "/api/v1/certificates",
        {"id": "far", "common_name": "far.example", "target_ids": [target_id]},
        house.key,
    )
    waiting.join(90)
    assert [item["step_kind"] for item in found] == ["prepare"]
