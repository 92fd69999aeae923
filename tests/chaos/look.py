"""Two that look at the town from outside, with nothing of certctl's: the prober never looks away, the auditor doubts every green.

The prober handshakes with every target in turn: completing a handshake proves that certificate and key are a pair. The auditor
reads what the API shows as verified, asks `openssl s_client` what is served at that moment (chain, name and leaf), and allows a
difference only where a change is under way and recorded.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from chaos.town import Host, Town
from peers.tls import any_certificate, served_der

_TRIES_SECONDS = 60.0  # a machine that has other work starts a killed server slowly


class Sight(NamedTuple):
    """In the look that began `at` (UTC), the target served this for the first time."""

    at: datetime
    fingerprint: str


class Looker(threading.Thread):
    """A thread that goes on until it is told to stop; an error of its own ends it and is kept."""

    def __init__(self, town: Town) -> None:
        super().__init__(daemon=True)
        self.town = town
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        try:
            self.look()
        except Exception as error:
            self.faults.append(f"the {type(self).__name__} itself ended: {error!r}")

    def look(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(60)


class Prober(Looker):
    """Looks at every target in turn, `pause` seconds between two looks."""

    def __init__(self, town: Town, pause: float) -> None:
        super().__init__(town)
        self._pause = pause
        self.sights: dict[str, list[Sight]] = {host.name: [] for host in town.hosts}

    def look(self) -> None:
        context = any_certificate()
        while True:
            for host in self.town.hosts:
                if self._stop_asked.wait(self._pause):
                    return
                self._look_at(host, context)

    def _look_at(self, host: Host, context: ssl.SSLContext) -> None:
        begun, at = time.monotonic(), datetime.now(UTC)
        self.counts["looks"] += 1
        try:
            seen = hashlib.sha256(served_der("127.0.0.1", host.port, host.site, context)).hexdigest()
        except OSError as error:
            # a door that is closed because its server was killed; anything else, and any pair that does not match, is a fault
            closed = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
            if closed and host.was_down(begun, time.monotonic()):
                self.counts["closed_doors_of_killed_servers"] += 1
            else:
                self.faults.append(f"{datetime.now(UTC):%H:%M:%S} {host.name}: {type(error).__name__}: {error}")
            return
        sights = self.sights[host.name]
        if not sights or sights[-1].fingerprint != seen:
            # when the look began: noted after it, a slow machine would have seen an old certificate after the new one's proof
            sights.append(Sight(at, seen))


class Served(NamedTuple):
    """What s_client saw: the leaf's SHA-256, and OpenSSL's word on chain and name ("" when both are good)."""

    fingerprint: str
    trouble: str


def s_client(port: int, name: str, ca_file: Path) -> Served | None:
    """One handshake by OpenSSL's own program; None when nothing answers."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-verify_hostname", name]
        + ["-CAfile", str(ca_file), "-no-CApath", "-verify_return_error"],
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    found = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", said, re.DOTALL)
    if found is None:
        failed = re.search(r"verify error:.*|verification failed.*", said, re.IGNORECASE)
        return Served("", failed[0]) if failed else None
    der = ssl.PEM_cert_to_DER_cert(found[0])
    told = re.search(r"Verify return code: (\d+) \((.*)\)|Verification error: (.*)", said)
    good = told is not None and told[1] == "0"
    return Served(hashlib.sha256(der).hexdigest(), "" if good else (told[0] if told else "it was not verified"))


class Auditor(Looker):
    """Reads one certificate after the other as the API shows it, and sends s_client to its target."""

    def __init__(self, town: Town, root_file: Path, pause: float) -> None:
        super().__init__(town)
        self._root_file, self._pause = root_file, pause

    def look(self) -> None:
        while True:
            for host in self.town.hosts:
                if self._stop_asked.wait(self._pause):
                    return
                try:
                    self.audit(host)
                except httpx.HTTPError:
                    self.counts["no_answer_from_the_api"] += 1

    def audit(self, host: Host) -> str:
        """Read, look, compare: what it came to is counted and returned."""
        shown = self.shown(host)
        outcome = "not_shown_green" if shown is None else self._doubt(host, shown)
        self.counts[outcome] += 1
        return outcome

    def last_word(self, host: Host) -> str:
        """As `audit`, once all is at rest: a call that nobody answers, or is told to come again, is made again."""
        deadline = time.monotonic() + _TRIES_SECONDS
        while True:
            try:
                return self.audit(host)
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _doubt(self, host: Host, shown: dict[str, Any]) -> str:
        served = self._serve_again(host)
        if served is None:
            self.faults.append(f"{host.name} is shown green and answers nobody for {_TRIES_SECONDS:g} s")
            return "green_and_dead"
        if served.trouble:
            # the target's first pair is made by itself: it is only ever seen before the first deployment
            self.faults.append(f"{host.name} is shown green and OpenSSL says: {served.trouble}")
            return "green_and_not_valid"
        if served.fingerprint == shown["fingerprint"]:
            return "green_and_served"
        now = self._shown_again(host)
        if now is None or now["deployment_id"] != shown["deployment_id"]:
            return "green_when_read_and_changed_since"
        self.faults.append(
            f"{datetime.now(UTC):%H:%M:%S} {host.name} is shown green ({shown}) and serves {served.fingerprint}"
        )
        return "falsely_green"

    def _shown_again(self, host: Host) -> dict[str, Any] | None:
        """The second reading decides, so it is asked for until there is an answer."""
        deadline = time.monotonic() + _TRIES_SECONDS
        while True:
            try:
                return self.shown(host)
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _serve_again(self, host: Host) -> Served | None:
        """Look; while its server is known to be dead, look again until it is up."""
        deadline = time.monotonic() + _TRIES_SECONDS
        while True:
            served = s_client(host.port, host.site, self._root_file)
            if served is not None or time.monotonic() > deadline:
                return served
            self.counts["looks_at_killed_servers"] += 1
            time.sleep(0.2)

    def shown(self, host: Host) -> dict[str, Any] | None:
        """What the API shows as verified on this target: deployment and fingerprint; None when it shows no green."""
        path = f"/api/v1/certificates/{host.certificate_id}"
        reply = self.town.call("GET", f"{path}/deployments")
        if reply.status_code != 200:
            self.counts[f"the_api_answered_{reply.status_code}"] += 1
            # too many calls from this machine, on which everybody lives, is an honest answer when it says how long to wait
            if reply.status_code != 503 and "Retry-After" not in reply.headers:
                self.faults.append(f"the API answered {reply.status_code}: {reply.text[:200]}")
            raise httpx.HTTPError(f"answered {reply.status_code}")
        (target,) = reply.json()["data"]
        state = target.get("deployment") or {}
        if state.get("status") != "verified":
            return None
        return {"deployment_id": state["id"], "fingerprint": self._fingerprint(path, state["version_id"])}

    def _fingerprint(self, path: str, version_id: str) -> str:
        reply = self.town.call("GET", f"{path}/versions?per_page=500")
        reply.raise_for_status()
        (version,) = [one for one in reply.json()["data"] if one["id"] == version_id]
        return str(version["fingerprint_sha256"])
