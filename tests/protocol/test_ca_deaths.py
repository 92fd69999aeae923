"""Our server killed (SIGKILL) at each point of an ACME order's life: asked, ordered, proven, finalized, fetched, recorded.

pebble says what it signed: one certificate an intent, wherever the process died; the next start goes on with the order.
"""

from __future__ import annotations

from typing import Any

import pytest

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from peers.bind import ZONE, bind
from peers.fleet import Fleet
from peers.nursery import Nursery
from peers.pebble import pebble
from protocol.ca_house import by_dns

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
# ordered at the CA, authorised, finalized, downloaded, recorded
POINTS = ("acme.ordered", "acme.answered", "acme.finalized", "acme.fetched", "commit.record.before")


def test_a_server_killed_at_each_point_of_an_order_has_one_certificate_for_it(tmp_path):
    with Nursery() as nursery, bind() as names:
        fleet = Fleet(tmp_path, nursery=nursery, CERTCTL_ISSUERS_ALLOWED_NETWORKS="127.0.0.0/8")
        with pebble(names.resolver) as ca:
            try:
                fleet.start_server()
                fleet.bootstrap()
                issuer = {"id": "iss-acme", "name": "acme", "type": "ACME", "config": ca.config(**by_dns(names))}
                fleet.post("/api/v1/issuers", issuer)
                fleet.post("/api/v1/issuers/iss-acme/test")
                for number, point in enumerate(POINTS):
                    # whichever order comes there first: those of earlier deaths go on beside the new one
                    arm = fleet.arm_file("server")
                    arm.write_text(f"kill {point}")
                    _ask(fleet, f"cert-{number}", f"p{number}.{ZONE}")
                    fleet.wait(lambda: fleet.server.poll() is not None, f"the server dies at {point}", 120)
                    reached = arm.with_name(f"{arm.name}.reached")
                    assert reached.read_text() == f"kill {point}"
                    reached.unlink()
                    fleet.start_server()
                    # a request that died with the server is sent again; one that was taken is there already
                    _ask(fleet, f"cert-{number}", f"p{number}.{ZONE}")
                for number, point in enumerate(POINTS):
                    fleet.wait(lambda which=f"cert-{number}": _versions(fleet, which), f"issued after {point}", 120)
                    assert len(_versions(fleet, f"cert-{number}")) == 1
                assert ca.count("Issued certificate serial") == len(POINTS), "one certificate an intent"
                account = fleet.get("/api/v1/issuers/iss-acme/account")
                assert account["lost_orders"] == [], "pebble lists orders: none was lost"
            finally:
                fleet.stop()


def _ask(fleet: Fleet, certificate_id: str, name: str) -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    pem = csr_pem(build_csr(key, name, parse_names([name])))
    fleet.request(id=certificate_id, common_name=name, issuer_id="iss-acme", csr_pem=pem, target_ids=[])


def _versions(fleet: Fleet, certificate_id: str) -> list[dict[str, Any]]:
    answer = fleet.call("GET", f"/api/v1/certificates/{certificate_id}/versions")
    return answer.json()["data"] if answer.status_code == 200 else []
