"""How long until somebody else goes on: a replica killed or cut off half way, the database restarted or failed over.

Real processes, PostgreSQL and network namespaces (root). Prints JSON; every time is in seconds. The hint that crosses
processes is timed too. Usage: bench/takeover.py [--lease 30s] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import httpx

from peers.netns import network
from peers.postgres import Postgres, postgres
from peers.postgres_pair import pair
from peers.replicas import Replica, Replicas, csr_for, replicas

POINT = "commit.issue.record.before"


def until(done: Callable[[], bool], seconds: float = 300) -> float:
    """The moment at which it is so."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("it never was so")
        time.sleep(0.02)
    return time.monotonic()


def ask(house: Replicas, replica: Replica, name: str) -> bool:
    """Ask for a certificate; whether the answer was a success."""
    body = {"id": name, "common_name": f"{name}.example", "csr_pem": csr_for(f"{name}.example")}
    try:
        return replica.call("POST", "/api/v1/certificates", body, house.key).status_code < 300
    except (OSError, httpx.HTTPError):
        return False


def issued(house: Replicas, name: str) -> bool:
    """Whether it has a current version."""
    return house.count(f"FROM certificate_versions WHERE certificate_id = '{name}' AND status = 'current'") == 1


def caught(house: Replicas, replica: Replica, mode: str, mark: str) -> str:
    """The certificate whose step the replica has in hand as it dies or stands still."""
    reached = Path(f"{replica.arm_file}.reached")
    reached.unlink(missing_ok=True)
    for number in range(100):
        name = f"{mark}-{number}"
        replica.arm_file.write_text(f"{mode} {POINT}")
        threading.Thread(target=ask, args=(house, replica, name), daemon=True).start()
        until(lambda name=name: reached.exists() or issued(house, name))
        if reached.exists():
            return name
    raise RuntimeError("the other one always was faster")


def killed(server: Postgres, folder: Path, lease: str, rounds: int) -> list[float]:
    """kill -9 with a step in hand, until the other replica has issued."""
    took = []
    with replicas(folder, server) as house:
        first, _ = (house.add(CERTCTL_STEP_LEASE=lease) for _ in range(2))
        for number in range(rounds):
            name = caught(house, first, "kill", f"killed{number}")
            begun = time.monotonic()
            took.append(until(lambda name=name: issued(house, name)) - begun)
            first.start()
    return took


def cut_off(folder: Path, lease: str, rounds: int) -> tuple[list[float], list[float]]:
    """A silent cut in an open transaction, until the other has issued; mended, until it is ready."""
    took, back = [], []
    with network() as net:
        host, *hosts = net.add_host(), net.add_host(), net.add_host()
        with postgres(host.address, host.inside) as server, replicas(folder, server) as house:
            first, _ = (house.add(inside=each.inside, CERTCTL_STEP_LEASE=lease) for each in hosts)
            for number in range(rounds):
                name = caught(house, first, "hold", f"cut{number}")
                begun = time.monotonic()
                hosts[0].cut(silently=True)
                Path(f"{first.arm_file}.go").touch()
                took.append(until(lambda name=name: issued(house, name)) - begun)
                hosts[0].heal()
                net.introduce()
                begun = time.monotonic()
                back.append(until(first.ready) - begun)
    return took, back


def without_database(server: object, folder: Path, lease: str) -> float:
    """The database killed; from the moment it (or its standby) answers again until a replica has issued."""
    with replicas(folder, server) as house:
        first = house.add(CERTCTL_STEP_LEASE=lease)
        ask(house, first, "before")
        until(lambda: issued(house, "before"))
        server.crash()
        time.sleep(3)
        server.start_again()
        begun, number = time.monotonic(), 0
        while not ask(house, first, f"after-{number}"):
            number += 1
            time.sleep(0.1)
        return until(lambda: issued(house, f"after-{number}")) - begun


def wake_ups(server: Postgres, folder: Path, rounds: int) -> list[float]:
    """From a request's answer at one replica to the answer of a long poll at the other that nothing else would give."""
    took = []
    with replicas(folder, server) as house:
        first, second = (house.add(POLL_BENEATH_SECONDS="600") for _ in range(2))
        for number in range(rounds):
            name = f"far-{number}"
            token = first.did("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": name}, house.key)["token"]
            agent = first.did("POST", "/api/v1/agents", {"name": name, "hostname": "far.test"}, token)
            config = {"cert_path": "/srv/c.pem", "key_path": "/srv/k.pem", "endpoint": "127.0.0.1:443"}
            target = {"name": name, "type": "NGINX", "agent_id": agent["id"], "config": config}
            target_id = first.did("POST", "/api/v1/targets", target, house.key)["id"]
            answered: list[float] = []

            def poll(agent: dict = agent, answered: list[float] = answered) -> None:
                path = f"/api/v1/agents/{agent['id']}/work?wait=60&boot_id=b"
                if second.call("GET", path, key=agent["credential"], timeout=90).json()["jobs"]:
                    answered.append(time.monotonic())

            waiting = threading.Thread(target=poll)
            waiting.start()
            until(lambda agent=agent: house.count(f"FROM agents WHERE id = '{agent['id']}' AND boot_id = 'b'") == 1)
            body = {"id": name, "common_name": f"{name}.example", "target_ids": [target_id]}
            first.did("POST", "/api/v1/certificates", body, house.key)
            asked = time.monotonic()
            waiting.join()
            took.append(answered[0] - asked)
    return took


def spread(values: list[float]) -> dict[str, float]:
    """Least, middle, most."""
    return {
        "least": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "most": round(max(values), 3),
        "rounds": len(values),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lease", default="30s")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="certctl-takeover-") as name:
        folder = Path(name)
        with postgres() as server:
            woken = wake_ups(server, folder / "wake", max(options.rounds, 10))
            dead = killed(server, folder / "killed", options.lease, options.rounds)
            restarted = without_database(server, folder / "restarted", options.lease)
        with pair() as both:
            failed_over = without_database(both, folder / "failover", options.lease)
        cut, back = cut_off(folder / "cut", options.lease, options.rounds)
    print(
        json.dumps(
            {
                "lease": options.lease,
                "replica_killed_until_the_other_has_issued": spread(dead),
                "replica_cut_off_until_the_other_has_issued": spread(cut),
                "cable_mended_until_the_replica_is_ready": spread(back),
                "database_restarted_until_issued": round(restarted, 3),
                "standby_promoted_until_issued": round(failed_over, 3),
                "wake_up_from_answer_to_answer": spread(woken),
                "machine": {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
