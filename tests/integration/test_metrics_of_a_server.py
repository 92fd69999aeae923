"""A real server's figures: the fleet's page with what its worker does, and the process's own page on its own port."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from certctl.telemetry import metrics
from certctl.telemetry.metrics import Place
from peers.fleet import Fleet
from peers.ports import free_port


@pytest.fixture
def fleet(tmp_path):
    port = free_port()
    fleet = Fleet(tmp_path / "fleet", CERTCTL_RUNTIME_METRICS_PORT=str(port))
    try:
        fleet.start_server()
        fleet.bootstrap()
        yield fleet, f"http://127.0.0.1:{port}"
    finally:
        fleet.stop()


def parsed(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_real_server_tells_the_fleet_and_itself(fleet):
    fleet, runtime = fleet
    # the server's own TLS certificate is a managed one: it has been issued, and its CA's CRL asked for
    httpx.get(f"http://127.0.0.1:{fleet.pki_port}/.well-known/pki/crl/iss-local", timeout=60).raise_for_status()

    def told():
        page = fleet.call("GET", "/api/v1/metrics/prometheus")
        assert page.status_code == 200, page.text
        return parsed(page.text)

    fleet.wait(lambda: any(name == metrics.TICK_LAG.name for name, _ in told()), "ticks have run")
    seen = told()
    assert seen["certctl_issuance_total", (("issuer_type", "local"), ("outcome", "success"))] == 1
    assert any(name == metrics.CRL_NEXT_UPDATE.name and value > 0 for (name, _), value in seen.items())

    own = parsed(httpx.get(f"{runtime}/metrics", timeout=60).text)
    names = {name for name, _ in own}
    for each in metrics.METRICS:
        if each.place is Place.PROCESS:
            assert each.name in names or f"{each.name}_count" in names, each.name
    scraped = (("method", "GET"), ("route", "/api/v1/metrics/prometheus"), ("status", "200"))
    assert own["certctl_http_request_duration_seconds_count", scraped] >= 1
    assert own["certctl_database_pool_size", ()] == 20
    assert own["process_resident_memory_bytes", ()] > 0
    fleet.call("GET", "/api/v1/certificates/no-such-thing")
    fleet.call("GET", "/no/such/page/at/all")
    routes = {dict(labels).get("route") for (name, labels) in parsed(httpx.get(f"{runtime}/metrics").text)}
    assert "/api/v1/certificates/{certificate_id}" in routes
    assert not any("no-such-thing" in route or "no/such" in route for route in routes if route), "labels are bounded"
    assert httpx.get(f"{runtime}/api/v1/certificates").status_code == 404, "nothing else is there"
