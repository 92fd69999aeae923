"""kill -9 in the middle of every stage: the story ends the same, and NGINX serves a valid pair at every instant."""

from __future__ import annotations

import itertools
import os

import pytest

from peers.fleet import Fleet, Prober, fleet
from peers.nginx import fingerprint
from peers.postgres import Postgres

SERVER_POINTS = [
    "commit.request.before",
    "commit.approve.after",
    "commit.prepare.after",
    "commit.issue.intent.after",
    "issue.answered",
    "commit.issue.answer.after",
    "commit.record.before",
    "commit.record.after",
    "commit.deploy.report.before",
    "commit.deploy.report.after",
    "commit.verify.report.before",
    "commit.verify.report.after",
]
AGENT_POINTS = [
    "agent.prepare.staged",
    "agent.prepare.kept",
    "agent.outbox.sent",
    "agent.deploy.planned",
    "swap.staged",
    "swap.renamed:1",
    "swap.synced",
    "swap.activated",
    "swap.seen",
    "agent.deploy.applied",
    "agent.deploy.kept",
    "agent.verify.kept",
]


def _database(kind: str, request) -> str | None:
    if kind == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.new_database()


def _judge(town: Fleet, prober: Prober, certificate_id: str) -> None:
    """What must always hold, whatever died."""
    prober.stop()
    versions = town.get(f"/api/v1/certificates/{certificate_id}/versions")["data"]
    placeholder = fingerprint((town.nginx.dir / "placeholder.pem").read_text())
    known = {placeholder, *(version["fingerprint_sha256"] for version in versions)}
    assert prober.faults == [], "NGINX did not serve a valid pair at every instant"
    assert set(prober.seen) <= known, "NGINX served something that nobody recorded"
    assert len(versions) == 1, "the story made more than one certificate"
    assert prober.seen[-1] == versions[0]["fingerprint_sha256"]
    issuing = town.get(f"/api/v1/jobs?certificate_id={certificate_id}&type=Issuance")["data"]
    assert [job["status"] for job in issuing] == ["Completed"]
    shown = town.get(f"/api/v1/certificates/{certificate_id}")
    assert shown["status"] == "Active"


def _start(town: Fleet, **dies: str) -> Prober:
    town.furnish(**dies)
    (town.nginx.dir / "placeholder.pem").write_text(town.nginx.cert_path.read_text())
    prober = Prober(town.nginx.port)
    prober.start()
    return prober


@pytest.mark.parametrize(
    ("kind", "point"), list(zip(itertools.cycle(["sqlite", "postgresql"]), SERVER_POINTS, strict=False))
)
def test_the_server_dies(kind, point, tmp_path, request):
    with fleet(tmp_path, _database(kind, request)) as town:
        prober = _start(town, server_dies=point)
        assert town.server is not None
        certificate_id = town.request()
        town.wait(lambda: town.server.poll() is not None, f"the server dies at {point}")
        assert town.server.returncode == -9
        town.start_server()
        if point == "commit.request.before":
            assert town.call("GET", f"/api/v1/certificates/{certificate_id}").status_code == 404, (
                "half a request stands"
            )
            town.request()
        town.wait(lambda: town.verified(certificate_id), f"the story ends after the server died at {point}")
        _judge(town, prober, certificate_id)


@pytest.mark.parametrize("point", AGENT_POINTS)
def test_the_agent_dies(point, tmp_path, request):
    kind = "sqlite" if AGENT_POINTS.index(point) % 2 else "postgresql"
    with fleet(tmp_path, _database(kind, request)) as town:
        prober = _start(town, agent_dies=point)
        assert town.agent is not None
        certificate_id = town.request()
        town.wait(lambda: town.agent.poll() is not None, f"the agent dies at {point}")
        assert town.agent.returncode == -9
        town.start_agent()
        town.wait(lambda: town.verified(certificate_id), f"the story ends after the agent died at {point}")
        _judge(town, prober, certificate_id)


def test_nothing_of_a_fleet_is_left_running(tmp_path):
    with fleet(tmp_path) as town:
        town.furnish()
        pids = [town.server.pid, town.agent.pid, town.nginx.pid]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
