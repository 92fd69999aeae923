"""The alerts of the chart, rendered by helm: promtool fires and resolves each; a real Prometheus scrapes a really broken
fleet with a bearer key, and a real Alertmanager receives them.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from certctl.telemetry import metrics
from chart.chart import ROOT, of, render
from peers.fleet import Fleet
from peers.monitoring import monitoring

THE_FOUR = {
    "CertctlCertificateExpiringSoon",
    "CertctlAgentOffline",
    "CertctlJobFailureRateHigh",
    "CertctlIssuanceFailures",
}


def rules(*sets):
    return {"groups": of(render("monitoring.prometheusRules.enabled=true", *sets), "PrometheusRule")["spec"]["groups"]}


def alerts(rendered):
    return {rule["alert"]: rule for group in rendered["groups"] for rule in group["rules"]}


def promtool(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_reads_the_rules_and_each_speaks_of_metrics_that_exist(tmp_path):
    rendered = rules()
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rendered))
    said = promtool(tmp_path, "check", "rules", "rules.yml")
    assert "SUCCESS" in said
    assert set(alerts(rendered)) >= THE_FOUR
    known = {each.name for each in metrics.METRICS}
    for name, rule in alerts(rendered).items():
        spoken_of = set(re.findall(r"certctl_[a-z_]+", rule["expr"]))
        assert spoken_of, name
        assert spoken_of <= known, f"{name} speaks of what is not emitted: {spoken_of - known}"
        assert "clamp" not in rule["expr"], "a clamp hides failures below one job a second"
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        headings = [
            line.lstrip("# ").lower() for line in (ROOT / page).read_text().splitlines() if line.startswith("#")
        ]
        assert section in headings, f"nobody is told what to do about {name}"


def series(name, values, *, labels="", replicas=("a", "b")):
    """The same fleet's figure as each replica tells it."""
    inner = f",{labels}" if labels else ""
    return [
        {"series": f'{name}{{namespace="pki",job="certctl",instance="{one}"{inner}}}', "values": values}
        for one in replicas
    ]


# alert -> series, and when it must be silent, firing, silent again. Every figure comes from two replicas: one fleet, one alert.
STORIES = {
    "CertctlCertificateExpiringSoon": (
        series("certctl_certificate_expiring_soon", "0x10 3x20 0x20"),
        {"5m": 0, "14m": 0, "20m": 1, "40m": 0},
    ),
    "CertctlAgentOffline": (
        series("certctl_agent_total", "5x200") + series("certctl_agent_online", "5x10 4x90 5x100"),
        {"30m": 0, "65m": 0, "80m": 1, "110m": 0},
    ),
    # one failure in a hundred seconds: far below one job a second, and most of what ended
    "CertctlJobFailureRateHigh": (
        series("certctl_job_failed_total", "0x20 0+1x60 60x60")
        + series("certctl_job_completed_total", "0x20 0+1x60 60+5x60"),
        {"10m": 0, "30m": 0, "50m": 1, "130m": 0},
    ),
    "CertctlIssuanceFailures": (
        series("certctl_issuance_failures_total", "0x20 0+1x40 40x60", labels='issuer_type="local",error_class="other"')
        + series("certctl_issuance_failures_total", "0x120", labels='issuer_type="acme",error_class="timeout"'),
        {"10m": 0, "30m": 0, "50m": 1, "110m": 0},
    ),
    "CertctlCertificateExpiresBeforeRenewal": (
        series("certctl_certificate_expires_before_renewal", "0x10 1x60 0x30"),
        {"5m": 0, "20m": 0, "60m": 1, "80m": 0},
    ),
    "CertctlJobsStuck": (
        series("certctl_job_stuck", "0x10 2x60 0x30"),
        {"5m": 0, "20m": 0, "60m": 1, "80m": 0},
    ),
    "CertctlSchedulerBehind": (
        series("certctl_tick_lag_seconds", "0x10 600x60 0x30", labels='tick="renew"'),
        {"5m": 0, "15m": 0, "60m": 1, "80m": 0},
    ),
    "CertctlCrlNearNextUpdate": (
        # promtool's clock begins at 0: a CRL whose nextUpdate is 12 h from the beginning, replaced after 7 h
        series("certctl_crl_next_update_timestamp_seconds", "43200x420 129600x60", labels='ca_id="ca-1"'),
        {"30m": 0, "350m": 0, "400m": 1, "450m": 0},
    ),
    "CertctlAuditSealBroken": (
        series("certctl_audit_seal_broken", "0x10 1x60 0x30"),
        {"5m": 0, "15m": 1, "60m": 1, "80m": 0},
    ),
    # each receiver by itself: one that is down is told while another has everything
    "CertctlAuditPushBehind": (
        series("certctl_audit_push_behind_seconds", "2x10 0+60x60 0x30", labels='receiver="syslog"')
        + series("certctl_audit_push_behind_seconds", "2x100", labels='receiver="http"'),
        {"20m": 0, "27m": 0, "50m": 1, "80m": 0},
    ),
    "CertctlNotificationsWaiting": (
        series("certctl_notification_oldest_pending_seconds", "0x10 0+60x60 0x30"),
        {"20m": 0, "27m": 0, "50m": 1, "80m": 0},
    ),
    "CertctlHealthChecksBehind": (
        series("certctl_health_check_overdue_seconds", "5x10 1200x60 5x30"),
        {"5m": 0, "15m": 0, "60m": 1, "80m": 0},
    ),
    # down and mismatched together are one alert, and what is healthy or switched off is none
    "CertctlEndpointsFailing": (
        series("certctl_health_check", "0x10 2x60 0x30", labels='status="down"')
        + series("certctl_health_check", "0x20 1x50 0x30", labels='status="cert_mismatch"')
        + series("certctl_health_check", "50x100", labels='status="healthy"')
        + series("certctl_health_check", "7x100", labels='status="disabled"'),
        {"5m": 0, "14m": 0, "60m": 1, "80m": 0},
    ),
    "CertctlDatabasePoolExhausted": (
        series("certctl_database_pool_in_use", "3x10 20x60 3x30", replicas=("a",))
        + series("certctl_database_pool_size", "20x100", replicas=("a",)),
        {"5m": 0, "12m": 0, "60m": 1, "80m": 0},
    ),
}


@pytest.mark.parametrize("name", sorted(STORIES))
def test_promtool_sees_it_fire_once_a_fleet_and_resolve(name, tmp_path):
    """How often it fires is asked of Prometheus's own ALERTS series: labels and texts are the rule's affair."""
    given, moments = STORIES[name]
    rendered = rules()
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rendered))
    asked = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": moment,
            "exp_samples": [{"labels": "{}", "value": times}],
        }
        for moment, times in moments.items()
    ]
    # a flat line of an hour is far apart for a rate of 15 minutes: samples come every minute
    test = {"interval": "1m", "input_series": given, "promql_expr_test": asked}
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(whole))
    promtool(tmp_path, "test", "rules", "test.yml")
    assert alerts(rendered)[name]["labels"]["severity"] == "warning"


def test_every_alert_has_its_story():
    assert set(alerts(rules())) == set(STORIES), "an alert that nobody has seen fire is a hope"


def test_a_broken_fleet_reaches_alertmanager(tmp_path):
    """Issuance that fails because the CA's key does not open, jobs that fail, an agent that is gone, an end that is near."""
    fleet = Fleet(tmp_path / "fleet")
    quick = [
        f"monitoring.prometheusRules.thresholds.{name}=1s"
        for name in ("expiringCertificateFor", "offlineAgentFor", "jobFailureRateFor", "issuanceFailureFor")
    ]
    rendered = rules(*quick)
    for group in rendered["groups"]:
        group["interval"] = "1s"
    try:
        fleet.furnish()
        reader = fleet.post("/api/v1/auth/keys", {"name": "prometheus", "role_ids": ["r-viewer"]})["key_value"]
        place = {"target": f"127.0.0.1:{fleet.api_port}", "server_name": "localhost", "ca_path": fleet.ca_path}
        with monitoring(tmp_path / "monitoring", **place, key=reader, rules=rendered) as seen:
            seen.wait(lambda: [health for health, _ in seen.target_health()] == ["up"], "the scrape works")
            seen.wait(
                lambda: seen.query("certctl_agent_online") and seen.query("certctl_issuance_failures_total"), "first"
            )
            time.sleep(2)  # a rate needs a sample from before
            assert not THE_FOUR & set(seen.alerts()), "nothing is broken yet"

            _issue_for_days(fleet, 20)
            _break_the_ca(fleet)
            fleet.call("POST", "/api/v1/certificates/cert-short/renew")
            fleet.stop_agent()
            fleet.clock_file.write_text("400")  # the agent's last heartbeat is more than five minutes old now
            seen.wait(lambda: set(seen.alerts()) >= THE_FOUR, "all four have come", 120)
            offline = seen.alerts()["CertctlAgentOffline"]
            assert offline["labels"]["component"] == "certctl-agent"
            assert offline["annotations"]["summary"].startswith("1 ")

            fleet.start_agent()
            seen.wait(lambda: "CertctlAgentOffline" not in seen.alerts(), "the agent is back", 120)
            assert "CertctlIssuanceFailures" in seen.alerts(), "and nothing else has been mended by that"
    finally:
        fleet.stop()


def _issue_for_days(fleet, days):
    fleet.request()
    fleet.wait(lambda: fleet.verified("cert-shop"), "a certificate is served")
    csr = _csr(fleet.directory)
    body = {"id": "cert-short", "common_name": "short.example", "csr_pem": csr, "validity_seconds": days * 86400}
    fleet.post("/api/v1/certificates", body)
    fleet.wait(lambda: fleet.get("/api/v1/certificates/cert-short")["status"] != "Pending", "the short one is issued")


def _csr(folder):
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", folder / "short.key", "-out", folder / "short.csr", "-subj", "/CN=short.example"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:short.example"], check=True, capture_output=True)
    return (folder / "short.csr").read_text()


def _break_the_ca(fleet):
    """Rot in the database: the issuing CA's sealed key no longer opens. Then ask for a certificate until the job fails."""
    fleet.stop_server()  # a running one has the key in memory
    with sqlite3.connect(fleet.server_dir / "certctl.db", timeout=30) as database:
        database.execute("UPDATE ca_keys SET sealed = x'00'")
    database.close()
    fleet.spawn_server()

    def answers():
        with contextlib.suppress(OSError, httpx.HTTPError):
            return fleet.call("GET", "/health").status_code == 200
        return False

    fleet.wait(answers, "the server answers", 90)
    fleet.wait(lambda: fleet.call("GET", "/ready").json().get("failed") == "signer", "it knows that it cannot sign", 90)
    folder = fleet.directory / "more"
    folder.mkdir()
    fleet.post(
        "/api/v1/certificates",
        {"id": "cert-never", "name": "never", "common_name": "short.example", "csr_pem": _csr(folder)},
    )

    def failed():
        return fleet.get("/api/v1/jobs?status=failed")["total"] > 0

    fleet.wait(failed, "a job has failed for good", 90)
    assert json.dumps(fleet.get("/api/v1/jobs?status=failed")["data"][0]["last_error"]) != '""'
