"""A host with an agent and its NGINX is cut off from the control plane, half way through a renewal; the cable is put back.

Real processes, each host in a network namespace of its own. While it is cut off the host goes on serving a valid pair, and the
control plane does not call green what it cannot know; afterwards the renewal ends as if nothing had been, and nothing is doubled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peers.fleet import SITE, Prober
from peers.netns import Host, Network, network
from peers.nginx import Nginx, fingerprint
from peers.nursery import AGENT, HERE
from peers.postgres import postgres
from peers.replicas import Replica, Replicas, replicas

pytestmark = [pytest.mark.xdist_group("partition-agents"), pytest.mark.timeout(400)]

LEASE_SECONDS = 4
CERTIFICATE = "cert-shop"


class ProberThere(Prober):
    """The prober stands beside the server that it looks at: the cut does not blind it."""

    def __init__(self, host: Host, port: int) -> None:
        super().__init__(port, address=host.address)
        self._host = host

    def run(self) -> None:
        with self._host.inside():
            super().run()


class Outpost:
    """A host with an agent and an NGINX."""

    def __init__(self, folder: Path, host: Host, house: Replicas, server: Host) -> None:
        self.folder, self.host, self.house = folder, host, house
        self.nginx = Nginx(folder / "nginx", SITE, host.address)
        self.placeholder = fingerprint(self.nginx.cert_path.read_text())
        self.arm_file = folder / "arm"
        self._server = server
        self._agent: subprocess.Popen[bytes] | None = None

    @property
    def replica(self) -> Replica:
        return self.house.all[0]

    def open(self) -> str:
        """Start both, enrol, make the target; its id."""
        with self.host.inside():
            self.nginx.start()
        token = self.replica.did("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": "outpost"}, self.house.key)[
            "token"
        ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        environ = inherited | {
            "PYTHONPATH": str(HERE.parent),
            "ARM_FILE": str(self.arm_file),
            "CERTCTL_SERVER_URL": f"https://{self._server.address}:{self.replica.port}",
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.replica.directory / "data" / "ca.pem"),
            "CERTCTL_AGENT_NAME": "outpost",
            "CERTCTL_AGENT_STATE_DIR": str(self.folder / "state"),
            "CERTCTL_KEY_DIR": str(self.folder / "keys"),
            "CERTCTL_AGENT_ALLOW_FILE": str(self.nginx.allow_file),
            "CERTCTL_AGENT_ENROLMENT_TOKEN": token,
            "CERTCTL_LOG_FORMAT": "text",
        }
        with (self.folder / "log").open("ab") as log, self.host.inside():
            self._agent = subprocess.Popen(
                [sys.executable, str(AGENT), "run"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        identity = self.folder / "state" / "agent.json"
        self.replica.wait(identity.exists, "the agent is enrolled")
        target = {
            "name": "nginx",
            "type": "NGINX",
            "agent_id": json.loads(identity.read_text())["agent_id"],
            "config": self.nginx.target_config,
        }
        return str(self.replica.did("POST", "/api/v1/targets", target, self.house.key)["id"])

    def close(self) -> None:
        if self._agent is not None and self._agent.poll() is None:
            self._agent.kill()
            self._agent.wait(10)
        self.nginx.stop()

    def wait(self, done: Any, what: str) -> None:
        log = self.folder / "log"
        try:
            self.replica.wait(done, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- agent\n{log.read_text(errors='replace')[-3000:]}") from error

    def served(self) -> str:
        with self.host.inside():
            return self.nginx.served()

    def newest(self) -> tuple[int, str]:
        """How many versions there are, and the fingerprint of the current one."""
        versions = self.replica.did("GET", f"/api/v1/certificates/{CERTIFICATE}/versions", None, self.house.key)
        current = [one["fingerprint_sha256"] for one in versions["data"] if one["status"] == "current"]
        return versions["total"], (current or [""])[0].replace(":", "").lower()

    def green(self) -> str:
        """The fingerprint that is shown as verified on the target, if any."""
        path = f"/api/v1/certificates/{CERTIFICATE}/deployments"
        (told,) = self.replica.did("GET", path, None, self.house.key)["data"]
        state = told.get("deployment") or {}
        if state.get("status") != "verified":
            return ""
        found = self.house.rows(
            f"SELECT fingerprint_sha256 FROM certificate_versions WHERE id = '{state['version_id']}'"
        )
        return found[0][0]


@pytest.fixture(scope="module")
def outpost(tmp_path_factory) -> Iterator[tuple[Network, Outpost]]:
    """PostgreSQL, a server, and an outpost on three hosts, the first certificate served."""
    folder = tmp_path_factory.mktemp("outpost")
    with network() as net:
        database, server, far = net.add_host(), net.add_host(), net.add_host()
        with postgres(database.address, database.inside) as postgresql, replicas(folder, postgresql) as house:
            house.add(
                inside=server.inside,
                CERTCTL_SERVER_HOST="0.0.0.0",
                CERTCTL_SERVER_NAMES=f"localhost,127.0.0.1,{server.address}",
                CERTCTL_STEP_LEASE=f"{LEASE_SECONDS}s",
            )
            made = Outpost(folder, far, house, server)
            try:
                body = {"id": CERTIFICATE, "common_name": SITE, "target_ids": [made.open()]}
                made.replica.did("POST", "/api/v1/certificates", body, house.key)
                made.wait(lambda: made.green() == made.newest()[1] != "", "the first certificate is verified")
                yield net, made
            finally:
                made.close()


@pytest.mark.parametrize(
    ("point", "silently"),
    [
        ("agent.call.csr.asking", True),
        ("swap.renamed:0", True),
        ("agent.call.status.asking", True),
        ("agent.call.verify.asking", False),
    ],
)
def test_the_renewal_ends_as_if_nothing_had_been(outpost, point, silently):
    net, here = outpost
    before, old = here.newest()
    begun = here.house.count("FROM step_log")
    prober = ProberThere(here.host, here.nginx.port)
    prober.start()
    here.arm_file.write_text(f"hold {point}")
    here.replica.did("POST", f"/api/v1/certificates/{CERTIFICATE}/renew", {"force": True}, here.house.key)
    here.wait(Path(f"{here.arm_file}.reached").exists, f"{point} is passed")
    here.host.cut(silently=silently)
    try:
        Path(f"{here.arm_file}.go").touch()
        lapsed = f"FROM step_log WHERE n > {begun} AND status = 'ready' AND fence > 0"
        here.wait(lambda: here.house.count(lapsed), "the lease of its step has lapsed")
        assert here.green() in {"", old}, "the control plane cannot know what was not told"
        assert here.served() in {old, here.newest()[1]}
    finally:
        here.host.heal()
        net.introduce()
    here.wait(lambda: here.green() == here.newest()[1] != old, "the renewal ended, and is proved")
    assert here.served() == here.green()
    prober.stop()
    assert not prober.faults
    judge(here, before, begun, prober.seen)


def judge(here: Outpost, before: int, begun: int, seen: list[str]) -> None:
    assert here.newest()[0] == before + 1, "one version a renewal"
    known = {row[0] for row in here.house.rows("SELECT fingerprint_sha256 FROM certificate_versions")}
    assert set(seen) <= known, "only what is recorded was ever served"
    doubled = f"SELECT id FROM step_log WHERE status = 'done' AND n > {begun} GROUP BY id HAVING count(*) > 1"
    assert not here.house.rows(doubled), "a step was done twice"
    assert not here.house.rows("SELECT serial_number FROM orders GROUP BY serial_number HAVING count(*) > 1")
    assert here.house.rows("SELECT DISTINCT status FROM jobs") == [("Completed",)]
