"""A real Prometheus and a real Alertmanager of a test's own: loopback, free ports, stopped by their pids."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from peers.ports import free_port


@dataclass
class Monitoring:
    """Where the two answer."""

    prometheus: str
    alertmanager: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expression}, timeout=60)
        answer.raise_for_status()
        return answer.json()["data"]["result"]

    def target_health(self) -> list[tuple[str, str]]:
        found = httpx.get(f"{self.prometheus}/api/v1/targets", timeout=60).json()["data"]["activeTargets"]
        return [(target["health"], target["lastError"]) for target in found]

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What Alertmanager has received and not seen resolved, by name."""
        answer = httpx.get(f"{self.alertmanager}/api/v2/alerts", params={"active": "true"}, timeout=60)
        answer.raise_for_status()
        return {alert["labels"]["alertname"]: alert for alert in answer.json()}

    def wait(self, ready: Any, what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if ready():
                    return
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {what}; targets {self.target_health()}; {sorted(self.alerts())}")


@contextlib.contextmanager
def monitoring(
    folder: Path, *, target: str, server_name: str, ca_path: Path, key: str, rules: dict
) -> Iterator[Monitoring]:
    """Both, scraping `target` (host:port) as an operator would: HTTPS, a bearer key from a file, our CA."""
    folder.mkdir()
    (folder / "key").write_text(key)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    ports = free_port(), free_port()
    (folder / "alertmanager.yml").write_text(
        yaml.safe_dump({"route": {"receiver": "none", "group_wait": "0s"}, "receivers": [{"name": "none"}]})
    )
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
        "scrape_configs": [
            {
                "job_name": "certctl",
                "scheme": "https",
                "metrics_path": "/api/v1/metrics/prometheus",
                "authorization": {"type": "Bearer", "credentials_file": "key"},
                "tls_config": {"ca_file": str(ca_path), "server_name": server_name},
                "static_configs": [{"targets": [target], "labels": {"namespace": "pki"}}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    commands = {
        "prometheus": ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{ports[0]}"]
        + ["--storage.tsdb.path=data"],
        "alertmanager": ["prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am"]
        + [f"--web.listen-address=127.0.0.1:{ports[1]}", "--cluster.listen-address="],
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                running.append(
                    subprocess.Popen(
                        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                    )
                )
        both = Monitoring(f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
        _until_ready(both, folder)
        yield both
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def _until_ready(both: Monitoring, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if all(httpx.get(f"{url}/-/ready", timeout=5).is_success for url in (both.prometheus, both.alertmanager)):
                return
        time.sleep(0.1)
    logs = {path.name: path.read_text()[-1500:] for path in folder.glob("*.log")}
    raise AssertionError(f"Prometheus or Alertmanager did not start: {logs}")
