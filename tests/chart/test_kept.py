"""Secrets are made once: an upgrade, seen through a Kubernetes API of the test's own, makes none anew."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from chart.chart import ALL_ON, CHART, Manifest, helm, of, render


class Cluster(ThreadingHTTPServer):
    """As much of a Kubernetes API as `lookup` asks: what there is, and one Secret by its name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.secrets: dict[str, Manifest] = {}
        self.asked: set[str] = set()


class _Api(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        secrets = "/api/v1/namespaces/pki/secrets/"
        answers: dict[str, Any] = {
            "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {
                "kind": "APIResourceList",
                "groupVersion": "v1",
                "resources": [
                    {"name": "secrets", "singularName": "", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
                ],
            },
        }
        if path.startswith(secrets):
            name = path.removeprefix(secrets)
            self.server.asked.add(name)
            found = self.server.secrets.get(name)
        else:
            found = answers.get(path)
        body = found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        data = json.dumps(body).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def upgrade(cluster: Cluster, tmp_path, *sets: str) -> list[Manifest]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": ""}}],
                "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{cluster.server_address[1]}"}}],
            }
        )
    )
    command = [helm(), "template", "certctl", str(CHART), "--namespace", "pki", "--dry-run=server", "--is-upgrade"]
    command += ["--kubeconfig", str(kubeconfig), *[word for each in sets for word in ("--set", each)]]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={"HOME": str(tmp_path)}
    )
    assert ended.returncode == 0, ended.stderr
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


def install(cluster: Cluster, *sets: str) -> list[Manifest]:
    manifests = render(*sets)
    for each in manifests:
        if each["kind"] == "Secret" and "helm.sh/hook" not in each["metadata"].get("annotations", {}):
            cluster.secrets[each["metadata"]["name"]] = each
    return manifests


def secrets(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "Secret"}


def test_an_upgrade_keeps_every_secret(cluster, tmp_path):
    before = install(cluster, *ALL_ON)
    after = upgrade(cluster, tmp_path, *ALL_ON)
    assert cluster.asked >= {"certctl-server", "certctl-postgres", "certctl-tls"}
    assert secrets(after) == secrets(before)
    # nothing restarts for nothing
    assert of(after, "Deployment", "certctl-server") == of(before, "Deployment", "certctl-server")


def test_without_a_cluster_they_would_differ():
    assert secrets(render())["certctl-server"] != secrets(render())["certctl-server"]


def test_an_old_certificate_is_signed_anew_under_the_same_ca(cluster, tmp_path):
    install(cluster)
    old = cluster.secrets["certctl-tls"]
    old["metadata"]["annotations"]["certctl/made-at"] = str(int(time.time()) - 181 * 86400)
    after = secrets(upgrade(cluster, tmp_path))
    assert after["certctl-tls"]["ca.crt"] == old["data"]["ca.crt"], "agents go on trusting it"
    assert after["certctl-tls"]["tls.crt"] != old["data"]["tls.crt"]
    for key in ("ca.crt", "tls.crt"):
        (tmp_path / key).write_bytes(base64.b64decode(after["certctl-tls"][key]))
    subprocess.run(
        ["openssl", "verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "tls.crt"],
        check=True,
        capture_output=True,
        timeout=30,
    )


def test_another_name_is_in_the_certificate_after_the_upgrade(cluster, tmp_path):
    install(cluster)
    after = secrets(upgrade(cluster, tmp_path, "server.tls.dnsNames[0]=certctl.example"))
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-checkhost", "certctl.example"],
        input=base64.b64decode(after["certctl-tls"]["tls.crt"]),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert b"does match" in shown.stdout


def test_a_secret_that_outlives_the_release_is_used_again(cluster, tmp_path):
    before = install(cluster)
    for name in ("certctl-server", "certctl-postgres"):
        assert of(before, "Secret", name)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for name in ("certctl-tls", "certctl-tls-ca"):
        del cluster.secrets[name]
    after = secrets(upgrade(cluster, tmp_path))
    for name in ("certctl-server", "certctl-postgres"):
        assert after[name] == secrets(before)[name]
