"""The runbook of Prometheus's key, line by line, against a real server."""

from __future__ import annotations

from docs import runbook
from peers.fleet import Fleet


def test_every_line_works_and_the_key_does_nothing_else(tmp_path):
    fleet = Fleet(tmp_path / "fleet")
    folder = tmp_path / "reader"
    folder.mkdir()
    try:
        fleet.start_server()
        fleet.bootstrap()
        environ = {
            "CERTCTL_SERVER_URL": fleet.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(fleet.ca_path),
            "CERTCTL_API_KEY": fleet.key,
        }
        steps = runbook.lines("prometheus-bearer-token")
        assert {"Make the key", "Try it", "Rotate it"} <= {step.heading for step in steps}
        old = ""
        for step in steps:
            if step.heading == "Rotate it" and not old:
                old = (folder / "prometheus.key").read_text().strip()
            if not step.command.startswith(runbook.NOT_RUN):
                runbook.run(step, folder, environ)
        new = (folder / "prometheus.key").read_text().strip()
        assert new != old
        for key in (old, new):
            assert fleet.call("GET", "/api/v1/metrics/prometheus", key=key).status_code == 200, "both, for an hour"
        me = fleet.call("GET", "/api/v1/auth/me", key=new).json()
        assert [held["permission"] for held in me["effective_permissions"]] == ["metrics.read"]
    finally:
        fleet.stop()
