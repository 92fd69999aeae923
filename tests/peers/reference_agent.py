"""An agent that makes exactly the calls of the reference product's agent: no lease, no step id, no boot id, one key file a
certificate that each CSR overwrites. Written from the facts of its wire protocol, sharing no code with our agent."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class ReferenceAgent:
    """One agent, one API key. `poll` is one turn of its loop: everything inline, one job after the other."""

    def __init__(
        self, url: str, ca_path: Path, agent_id: str, key: str, key_dir: Path, look: Callable[[], str] | None = None
    ) -> None:
        self.id = agent_id
        self.key_dir = key_dir
        self.look = look  # how it sees what is served (a fingerprint); without it reports no probe
        self.csrs = 0
        key_dir.mkdir(mode=0o700, exist_ok=True)
        context = ssl.create_default_context(cafile=str(ca_path))
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, verify=context, timeout=30, headers=headers)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self._http.request(method, path, json=body)

    def heartbeat(self) -> httpx.Response:
        facts = {
            "version": "1.0.0",
            "hostname": "legacy",
            "os": "linux",
            "architecture": "amd64",
            "ip_address": "10.0.0.9",
        }
        return self.call("POST", f"/api/v1/agents/{self.id}/heartbeat", facts)

    def work(self) -> list[dict[str, Any]]:
        reply = self.call("GET", f"/api/v1/agents/{self.id}/work")
        assert reply.status_code == 200, reply.text
        body = reply.json()
        assert body["count"] == len(body["jobs"])
        return body["jobs"]

    def poll(self) -> list[str]:
        done = []
        for job in self.work():
            if job["status"] == "AwaitingCSR":
                done.append(f"csr {self.answer_csr(job).status_code}")
            elif job["type"] == "Deployment":
                done.append(self.deploy(job))
        return done

    def key_path(self, certificate_id: str) -> Path:
        return self.key_dir / f"{certificate_id}.key"

    def make_csr(self, job: dict[str, Any]) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self.key_path(job["certificate_id"]).write_bytes(pem)
        names = [x509.RFC822Name(name) if "@" in name else x509.DNSName(name) for name in job.get("sans", [])]
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, job["common_name"])])
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def answer_csr(self, job: dict[str, Any]) -> httpx.Response:
        self.csrs += 1
        return self.post_csr(self.make_csr(job), job["certificate_id"])

    def post_csr(self, csr_pem: str, certificate_id: str) -> httpx.Response:
        body = {"csr_pem": csr_pem, "certificate_id": certificate_id}
        return self.call("POST", f"/api/v1/agents/{self.id}/csr", body)

    def status(self, job_id: str, status: str, error: str = "") -> httpx.Response:
        body = {"status": status} | ({"error": error} if error else {})
        return self.call("POST", f"/api/v1/agents/{self.id}/jobs/{job_id}/status", body)

    def deploy(self, job: dict[str, Any]) -> str:
        config = job["target_config"]
        assert self.status(job["id"], "Running").json() == {"status": "updated"}
        pickup = self.call("GET", f"/api/v1/agents/{self.id}/certificates/{job['certificate_id']}")
        assert pickup.status_code == 200, pickup.text
        pem = pickup.json()["certificate_pem"]
        Path(config["cert_path"]).write_text(pem)
        Path(config["key_path"]).write_bytes(self.key_path(job["certificate_id"]).read_bytes())
        subprocess.run(config["reload_command"].split(), check=True, timeout=10)
        if self.look is not None:
            expected = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()
            for _ in range(100):  # it waits a moment for the reload, then looks
                if (seen := self.look()) == expected:
                    break
                time.sleep(0.02)
            reply = self.verify(job, expected, seen)
            assert reply.status_code == 200, reply.text
        reply = self.status(job["id"], "Completed")
        assert reply.json() == {"status": "updated"}, reply.text
        return "deployed"

    def verify(self, job: dict[str, Any], fingerprint: str, actual: str | None = None) -> httpx.Response:
        seen = fingerprint if actual is None else actual
        body = {
            "target_id": job["target_id"],
            "expected_fingerprint": fingerprint,
            "actual_fingerprint": seen,
            "verified": seen == fingerprint,
        }
        return self.call("POST", f"/api/v1/jobs/{job['id']}/verify", body)
