"""A server killed between looking at an endpoint and writing that down: the next one looks again, and tells once."""

from __future__ import annotations

from peers.fleet import fleet
from peers.ports import free_port


def test_a_look_that_was_not_written_down_is_done_again_and_told_once(tmp_path):
    with fleet(tmp_path) as town:
        town._extra |= {
            "CERTCTL_STEP_LEASE": "2s",
            "CERTCTL_HEALTH_CHECK_INTERVAL": "200ms",
            "CERTCTL_HEALTH_CHECK_DEFAULT_TIMEOUT": "2000",
        }
        server = town.spawn_server("observe.looked")
        town.wait(town._ready, "it is ready", 60)
        town.bootstrap()
        wanted = {"endpoint": f"127.0.0.1:{free_port()}", "degraded_threshold": 1, "down_threshold": 1}
        check = town.post("/api/v1/health-checks", wanted | {"id": "hc-1", "check_interval_seconds": 86400})
        assert check["status"] == "unknown"
        # it dies with what it saw in its hands
        assert server.wait(60) == -9
        town.start_server()
        town.wait(lambda: town.get("/api/v1/health-checks/hc-1")["status"] == "down", "it is looked at again", 60)
        (entry,) = town.get("/api/v1/health-checks/hc-1/history")
        assert (entry["looks"], entry["failure_kind"]) == (1, "unreachable")
        (notice,) = [row for row in town.get("/api/v1/notifications")["data"] if row["type"] == "EndpointHealth"]
        assert notice["severity"] == "critical"
