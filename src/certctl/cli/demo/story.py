"""The story the demo plays: requested, key made on the host, signed, deployed, proved, renewed, revoked and replaced.

Each claim of the control plane is held against what a client of its own sees; a stage that fails is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from msgspec import Struct

from certctl.cli.demo import webserver, witness
from certctl.cli.demo.installation import SITE, Installation
from certctl.client import Client
from certctl.client.models.certificates import CertificateWrite, VersionView
from certctl.client.models.jobs import JobView
from certctl.client.models.targets import TargetWrite
from certctl.core.errors import CertctlError, NotFound, TrustError
from certctl.pki.pem import read_certificates

CERTIFICATE = "demo-site"
TARGET = "demo-webserver"
_LIFE = timedelta(hours=24)
_PATIENCE_SECONDS = 30.0


class Line(Struct, frozen=True):
    """One line of the timeline: what happened, how long it took, what proves it."""

    chapter: str
    stage: str
    seconds: float
    proof: str


class StageFailedError(Exception):
    """The stage that did not do what it should, and why."""

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage = stage
        self.why = why


Tell = Callable[[str, Line | None], None]


class Story:
    """Plays the life of one certificate; `tell` is called when a stage begins (None) and when it ends (its line)."""

    def __init__(self, house: Installation, tell: Tell, *, use_nginx: bool = True) -> None:
        self._house = house
        self._tell = tell
        self.lines: list[Line] = []
        self.web = webserver.prepare(house.directory / "webserver", house.memory.ports.web, SITE, use_nginx=use_nginx)

    def open(self) -> Client:
        """Start web server, control plane and agent."""
        with self._stage("start", "web server", lambda: f"{self.web.kind} on 127.0.0.1:{self.web.port}"):
            webserver.start(self.web, self._house.children)
        with self._stage("start", "control plane", lambda: f"{self._house.url}, root {self._house.ca_path.name}"):
            self._house.start_server()
            client = self._house.client()
        with self._stage("start", "agent", lambda: f"{agent_id[:14]}..., its own process and credential"):
            agent_id = self._house.start_agent(client, self.web.allow_file)
            self._ensure_target(client, agent_id)
        return client

    def play(self, client: Client) -> None:
        """The whole life: first issue (or, on a later run, the certificate as it was left), renew, revoke and
        replace.
        """
        self._issue(client)
        self._renew(client)
        self._revoke(client)
        self._house.memory.run += 1
        self._house.remember()

    def _ensure_target(self, client: Client, agent_id: str) -> None:
        wanted = TargetWrite(
            id=TARGET,
            name=f"{self.web.kind} of the demo",
            type="NGINX",
            agent_id=agent_id,
            config={
                "cert_path": str(self.web.cert_path),
                "key_path": str(self.web.key_path),
                "endpoint": f"127.0.0.1:{self.web.port}",
                "sni": SITE,
            },
        )
        try:
            client.get_target(TARGET)
        except NotFound:
            client.create_target(wanted)
        else:
            client.update_target(TARGET, wanted)

    def _issue(self, client: Client) -> None:
        before = witness.look(self.web.port, SITE, self._house.ca_path)
        started = time.monotonic()
        try:
            known = client.get_certificate(CERTIFICATE)
        except NotFound:
            known = None
        if known is not None:
            self._say("resume", "certificate", f"{known.status}, served {before.fingerprint_sha256[:16]}", started)
            return
        with self._stage("issue", "request", lambda: f"{SITE}, {int(_LIFE.total_seconds() // 3600)} h, for {TARGET}"):
            wanted = CertificateWrite(
                id=CERTIFICATE,
                common_name=SITE,
                sans=[SITE, "localhost"],
                target_ids=[TARGET],
                validity_seconds=int(_LIFE.total_seconds()),
                tags={"made-by": "certctl demo"},
            )
            client.create_certificate(wanted)
        self._follow(client, "issue", "Issuance", known_jobs=set())
        self._prove(client, "issue", before.fingerprint_sha256)

    def _renew(self, client: Client) -> None:
        before = witness.look(self.web.port, SITE, self._house.ca_path)
        known = self._job_ids(client)
        with self._stage("renew", "request", lambda: "a new key on the host, linked to what it renews"):
            client.renew_certificate(CERTIFICATE)
        self._follow(client, "renew", "Renewal", known)
        self._prove(client, "renew", before.fingerprint_sha256)

    def _revoke(self, client: Client) -> None:
        current = self._current(client)
        chain = read_certificates(current.pem_chain)
        before = witness.look(self.web.port, SITE, self._house.ca_path)
        good = witness.ask_ocsp(chain[0], chain[1])
        known = self._job_ids(client)
        after = ""
        with self._stage("revoke", "revoke", lambda: f"serial {current.serial_number[:16]}: OCSP {good} -> {after}"):
            client.revoke_certificate(CERTIFICATE, reason="superseded", replace=True)
            after = witness.ask_ocsp(chain[0], chain[1])
            if good != "good" or not after.startswith("revoked"):
                raise TrustError(f"OCSP said {good} before and {after} after the revocation")
        self._follow(client, "replace", "Renewal", known)
        self._prove(client, "replace", before.fingerprint_sha256)

    def _follow(self, client: Client, chapter: str, kind: str, known_jobs: set[str]) -> None:
        """Follow the issuing job and its deployment stage by stage until the deployment is proved."""
        issuing = self._await_job(client, chapter, kind, known_jobs)
        self._lines_of(chapter, issuing)
        deployment = self._await_job(client, chapter, "Deployment", known_jobs)
        self._lines_of(chapter, deployment)

    def _await_job(self, client: Client, chapter: str, kind: str, known_jobs: set[str]) -> JobView:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._tell(f"{chapter}: {kind.lower()} under way", None)
        while time.monotonic() < deadline:
            fresh = [
                job for job in client.list_jobs(certificate_id=CERTIFICATE, type=kind).data if job.id not in known_jobs
            ]
            if fresh:
                job = client.get_job(fresh[0].id, wait_seconds=2)
                if job.status in {"Failed", "Cancelled"}:
                    raise StageFailedError(self._broken_stage(job), job.last_error or job.status)
                if job.status == "Completed":
                    return job
            else:
                time.sleep(0.02)
        raise StageFailedError(f"{chapter} ({kind.lower()})", f"not done within {_PATIENCE_SECONDS:.0f} s")

    @staticmethod
    def _broken_stage(job: JobView) -> str:
        return next((step.kind for step in job.steps if step.status == "failed"), job.type.lower())

    def _lines_of(self, chapter: str, job: JobView) -> None:
        for step in job.steps:
            if step.ended_at is not None:
                seconds = (step.ended_at - step.created_at).total_seconds()
                self._add(Line(chapter, step.kind, seconds, _PROOFS.get(step.kind, "")))

    def _prove(self, client: Client, chapter: str, before: str) -> None:
        """What a client that trusts only the root sees, against what the control plane says is deployed."""
        current = self._current(client)
        with self._stage(chapter, "handshake", lambda: f"{before[:16]} -> {seen.fingerprint_sha256[:16]}, trusted"):
            seen = witness.look(self.web.port, SITE, self._house.ca_path)
            if seen.fingerprint_sha256 != current.fingerprint_sha256:
                raise TrustError(f"it serves {seen.fingerprint_sha256[:16]}, not {current.fingerprint_sha256[:16]}")
            if not seen.trusted:
                raise TrustError(f"a client does not trust it: {seen.why_not}")
            chain = read_certificates(current.pem_chain)
            status = witness.ask_ocsp(chain[0], chain[1])
            if status != "good":
                raise TrustError(f"OCSP says {status} of what is served")

    def _current(self, client: Client) -> VersionView:
        versions = client.list_versions(CERTIFICATE).data
        return next(version for version in versions if version.status == "current")

    @staticmethod
    def _job_ids(client: Client) -> set[str]:
        return {job.id for job in client.list_jobs(certificate_id=CERTIFICATE).data}

    @contextmanager
    def _stage(self, chapter: str, stage: str, proof: Callable[[], str]) -> Iterator[None]:
        self._tell(f"{chapter}: {stage}", None)
        started = time.monotonic()
        try:
            yield
        except CertctlError as error:
            raise StageFailedError(f"{chapter} ({stage})", error.message) from error
        except OSError as error:
            raise StageFailedError(f"{chapter} ({stage})", str(error)) from error
        self._say(chapter, stage, proof(), started)

    def _say(self, chapter: str, stage: str, proof: str, started: float) -> None:
        self._add(Line(chapter, stage, time.monotonic() - started, proof))

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        self._tell(f"{line.chapter}: {line.stage}", line)


_PROOFS = {
    "approve": "profile and issuer allow it; the decision is bound by a hash",
    "prepare": "key made on the host, CSR matches the request",
    "issue": "serial and TBS stored, linted, then signed",
    "record": "key, names, lifetime and chain judged",
    "deploy": "validated, swapped, reloaded; receipt kept",
    "verify": "the agent saw the new fingerprint served",
    "revoke": "the CA confirmed",
    "publish": "CRL with the next number",
}
