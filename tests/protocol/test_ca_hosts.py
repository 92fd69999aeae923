"""Challenges answered by an agent on its host, in NGINX's folder and on ports of its own: two strict pebbles look.

With the agent killed while a file of its lies in the folder, and a host that allows nothing of the kind.
"""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from peers.bind import ZONE, bind
from peers.fleet import Fleet
from peers.nginx import Nginx
from peers.pebble import pebble
from peers.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
SITE = f"web.{ZONE}"


class Host:
    """A fleet whose NGINX serves a folder over plain HTTP, and what a test asks of it."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet(folder, CERTCTL_ISSUERS_ALLOWED_NETWORKS="127.0.0.0/8")
        nginx = self.fleet.nginx = Nginx(folder / "nginx", SITE)
        self.web_port, self.alone_port, self.alpn_port = free_port(), free_port(), free_port()
        self.root = folder / "www"
        self.root.mkdir()
        server = f"  server {{ listen 127.0.0.1:{self.web_port}; root {self.root}; }}\n}}\n"
        # as whoever runs the test: its folder is nobody else's to read
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};\n"
        nginx.conf.write_text(user + nginx.conf.read_text().rstrip().removesuffix("}") + server)
        self.allowed = nginx.allow_file.read_text()

    def allow(self) -> None:
        ports = "".join(f"\n[[port]]\nnumber = {port}\n" for port in (self.alone_port, self.alpn_port))
        self.fleet.nginx.allow_file.write_text(f'{self.allowed}\n[[webroot]]\npath = "{self.root}"\n{ports}')

    def ask(self, certificate_id: str, issuer_id: str, *names: str) -> None:
        """With a key of the client's own: the issuer names the agent that answers."""
        key = generate_private_key(KeyAlgorithm.ECDSA_P256)
        body = {
            "id": certificate_id,
            "common_name": names[0],
            "sans": list(names),
            "issuer_id": issuer_id,
            "csr_pem": csr_pem(build_csr(key, names[0], parse_names(list(names)))),
        }
        self.fleet.post("/api/v1/certificates", body)

    def job(self, certificate_id: str) -> dict[str, Any]:
        jobs = self.fleet.get("/api/v1/jobs")["data"]
        return next(job for job in jobs if job["certificate_id"] == certificate_id and job["type"] == "Issuance")

    def ended(self, certificate_id: str) -> dict[str, Any]:
        over = {"Completed", "Failed", "Cancelled"}
        self.fleet.wait(lambda: self.job(certificate_id)["status"] in over, f"{certificate_id} has ended", 120)
        return self.job(certificate_id)

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


def is_open(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(5)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_an_agent_answers_in_a_folder_and_on_ports_of_its_own(tmp_path):
    host = Host(tmp_path)
    fleet = host.fleet
    with (
        bind() as names,
        pebble(names.resolver, http_port=host.web_port) as by_folder,
        pebble(names.resolver, http_port=host.alone_port, tls_port=host.alpn_port) as by_port,
    ):
        try:
            fleet.furnish(agent_dies="agent.challenge.file.written")
            by_agent = {"challenge_by": "agent"}
            named = by_agent | {"challenge_agent_id": fleet.agent_id}
            issuers = {
                "iss-folder": by_folder.config(**by_agent, challenge_webroot=str(host.root)),
                "iss-alone": by_port.config(**named, challenge_port=host.alone_port),
                "iss-alpn": by_port.config(**named, challenge_type="tls-alpn-01", challenge_port=host.alpn_port),
                "iss-nobody": by_port.config(**by_agent, challenge_port=host.alone_port),
            }
            for issuer_id, config in issuers.items():
                made = {"id": issuer_id, "name": issuer_id, "type": "ACME", "config": config}
                fleet.post("/api/v1/issuers", made)

            # a host that does not say so answers nothing, and tells which lines would change that
            host.ask("cert-refused", "iss-alone", f"refused.{SITE}")
            refused = host.ended("cert-refused")
            assert refused["status"] == "Failed"
            assert f"[[port]]\nnumber = {host.alone_port}" in refused["last_error"]
            host.ask("cert-nobody", "iss-nobody", f"nobody.{SITE}")
            assert "name one in challenge_agent_id" in host.ended("cert-nobody")["last_error"]
            host.allow()

            # the agent is killed with its file in NGINX's folder; the next run removes it and is told anew
            body = {"id": "cert-web", "common_name": SITE, "issuer_id": "iss-folder", "target_ids": [fleet.target_id]}
            fleet.post("/api/v1/certificates", body)
            fleet.wait(lambda: fleet.agent.poll() is not None, "the agent has died with its file written", 120)
            assert len(host.files()) == 1
            fleet.start_agent()
            fleet.wait(lambda: fleet.verified("cert-web"), "proven in the folder, issued, deployed, verified", 120)
            (version,) = fleet.get("/api/v1/certificates/cert-web/versions")["data"]
            assert fleet.nginx.served() == version["fingerprint_sha256"]
            fleet.wait(lambda: not host.files(), "the file is taken away")

            host.ask("cert-alone", "iss-alone", f"a.{SITE}", f"b.{SITE}")
            host.ask("cert-alpn", "iss-alpn", f"c.{SITE}", f"d.{SITE}", "127.0.0.1")
            for certificate_id, names_of_it in (("cert-alone", 2), ("cert-alpn", 3)):
                job = host.ended(certificate_id)
                assert job["status"] == "Completed", (job, fleet.log("agent"), by_port.log())
                (version,) = fleet.get(f"/api/v1/certificates/{certificate_id}/versions")["data"]
                assert len(read_certificate(read_certificates(version["pem_chain"])[0]).names) == names_of_it
            for port in (host.alone_port, host.alpn_port):
                fleet.wait(lambda port=port: not is_open(port), f"port {port} is closed again")
            events = fleet.get("/api/v1/audit?action=challenges_shown")["data"]
            assert events, "the log says who answered"
        finally:
            fleet.stop()
