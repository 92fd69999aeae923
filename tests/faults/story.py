"""The story under fire: one fleet plays its chapters, something is killed at a named point, and the end is judged.

Chapters: start (an empty data directory to a ready server), furnish (first key, token, target), enrol (the agent),
request, renew, revoke (with replacement), look (OCSP and CRL as relying parties ask). A judgement reads the database itself,
what the signer signed, what the prober saw, and what CRL and OCSP say.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from certctl.pki.algorithms import SignatureAlgorithm
from certctl.pki.der import assemble_certificate
from peers.fleet import Fleet, Prober
from peers.nginx import fingerprint
from peers.nursery import Nursery
from peers.postgres import Postgres

CHAPTERS = ("start", "furnish", "enrol", "request", "renew", "revoke", "look")
CERTIFICATE = "cert-shop"
NGINX_RESTART_SECONDS = 0.5  # what a service manager takes; what is done meanwhile meets a server that is not there
POINTS_FILE = Path(__file__).with_name("points.txt")
# what a prober may meet while NGINX itself is killed: a closed door, never a pair that does not match
_CLOSED = ("ConnectionRefusedError", "ConnectionResetError", "SSLEOFError", "SSLZeroReturnError", "BrokenPipeError")


class Point(NamedTuple):
    """One point of death in one chapter."""

    chapter: str
    process: str
    name: str


class Listed(NamedTuple):
    """A line of the checked-in list. `always` is False for points that timing decides about (`?` in the list)."""

    process: str
    name: str
    chapters: tuple[str, ...]
    always: bool = True


def read_points() -> list[Listed]:
    """The checked-in list, in the order of the story."""
    lines = [line.split() for line in POINTS_FILE.read_text().splitlines() if line and line[0] not in "#-"]
    return [
        Listed(process, name.rstrip("?"), tuple(chapters.split(",")), not name.endswith("?"))
        for process, name, chapters in lines
    ]


def read_elsewhere() -> set[str]:
    """The commits and points that this story never passes, each with its reason in the list."""
    return {line.split()[1] for line in POINTS_FILE.read_text().splitlines() if line.startswith("-")}


def places(chosen: Callable[[Listed], tuple[str, ...]]) -> list[Point]:
    """Points of the list in the chapters that `chosen` picks for each."""
    return [Point(chapter, one.process, one.name) for one in read_points() for chapter in chosen(one)]


def once(one: Listed) -> tuple[str, ...]:
    """Each name once, outside the start: where a fleet can be shared best."""
    for chapter in ("renew", "request", "revoke", "look", "enrol", "furnish"):
        if chapter in one.chapters:
            return (chapter,)
    return ()


class Play:
    """One fleet on one database, and how far its story has come."""

    def __init__(
        self,
        directory: Path,
        postgres: Postgres | None = None,
        *,
        nursery: Nursery | None = None,
        patience: float = 1.0,
        **environ: str,
    ) -> None:
        """`patience` stretches every wait: a machine that has other work is slow, and that is not what is judged."""
        directory.mkdir(parents=True, exist_ok=True)
        self.postgres = postgres
        self._url = postgres.new_database() if postgres else None
        self.town = Fleet(directory, self._url, nursery, **environ)
        self._patience = patience
        self.second: Any = None
        self.versions = 0
        self.marks: list[tuple[str, int, int]] = []
        self.prober: Prober | None = None
        self.nginx_was_killed = False
        self.broken = False
        self._before = 0
        self._placeholder = ""
        self._revoked: set[str] = set()

    # -- the chapters: what begins one, whether it was taken on, whether it has ended ------------------------------------

    def begin(self, chapter: str) -> None:
        """Ask for a chapter; an answer may be lost with a dying server, and OCSP may say that it has to wait (ValueError)."""
        with contextlib.suppress(httpx.HTTPError, AssertionError, ValueError):
            getattr(self, f"_begin_{chapter}")()

    def taken_on(self, chapter: str) -> bool:
        """Whether what `begin` asked for stands, so that it must not be asked for again."""
        if chapter == "renew":
            return self._count("type = 'Renewal'") > self._before
        if chapter == "revoke":
            return self._count("type = 'Revocation'") > self._before
        if chapter == "request":
            return bool(self.rows(f"SELECT id FROM managed_certificates WHERE id = '{CERTIFICATE}'"))
        return self.ended(chapter)

    def ended(self, chapter: str) -> bool:
        with contextlib.suppress(OSError, httpx.HTTPError):
            return bool(getattr(self, f"_ended_{chapter}")())
        return False

    def _begin_start(self) -> None:
        """Start it, and ask for what its publishing tick makes at first: one that died with the tick waits for the next."""
        if not self.alive("server"):
            self.town.spawn_server()
        deadline = time.monotonic() + 40 * self._patience
        while self.alive("server") and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError), httpx.Client(timeout=10) as client:
                for path in ("crl/iss-local", "ocsp/iss-local/01"):
                    client.get(f"http://127.0.0.1:{self.town.pki_port}/.well-known/pki/{path}").raise_for_status()
                return
            time.sleep(0.02)

    def _ended_start(self) -> bool:
        ready = self.town.call("GET", "/ready").status_code == 200
        return ready and bool(self.rows("SELECT id FROM ocsp_responders")) and bool(self.rows("SELECT id FROM crls"))

    def _begin_furnish(self) -> None:
        if not self.town.key:
            self.town.bootstrap()
        if not self.town._token:
            self.town._token = self.town.post("/api/v1/agents/enrolment-tokens", {"agent_name": "web-1"})["token"]

    def _ended_furnish(self) -> bool:
        return bool(self.town.key and self.town._token)

    def _begin_enrol(self) -> None:
        # one that died is started again by the play: here it would run on past its next death
        if self.town.agent is None:
            self.town.spawn_agent()
        # as long as both live: a slow machine's enrolment takes its time, and without the target some points are never passed
        deadline = time.monotonic() + 40 * self._patience
        while (
            not self._identity.exists() and self.alive("agent") and self.alive("server") and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        if not self._identity.exists():
            return
        self.town.agent_id = json.loads(self._identity.read_text())["agent_id"]
        wanted = {"name": "nginx", "type": "NGINX", "agent_id": self.town.agent_id}
        self.town.call("POST", "/api/v1/targets", wanted | {"config": self.town.nginx.target_config})

    def _ended_enrol(self) -> bool:
        targets = self.rows("SELECT id FROM deployment_targets")
        polled = self.rows("SELECT id FROM agents WHERE boot_id <> ''")
        if targets:
            self.town.target_id = targets[0][0]
        return bool(targets) and bool(polled) and self._identity.exists()

    def _begin_request(self) -> None:
        self.town.request()

    def _begin_renew(self) -> None:
        self.town.call("POST", f"/api/v1/certificates/{CERTIFICATE}/renew", {})

    def _begin_revoke(self) -> None:
        wanted = {"reason": "superseded", "replace": True}
        self.town.call("POST", f"/api/v1/certificates/{CERTIFICATE}/revoke", wanted)

    def _ended_request(self) -> bool:
        return self.town.verified(CERTIFICATE, self.versions + 1) and not self._live()

    _ended_renew = _ended_request
    _ended_revoke = _ended_request

    def _begin_look(self) -> None:
        self._looked = False
        ca_id, issuer, leaves = self._leaves()
        base = f"http://127.0.0.1:{self.town.pki_port}/.well-known/pki"
        with httpx.Client(timeout=10) as client:
            crl = x509.load_der_x509_crl(client.get(f"{base}/crl/{ca_id}").raise_for_status().content)
            assert crl.is_signature_valid(issuer.public_key())
            told = {f"{one.serial_number:x}" for one in crl}
            assert {serial.lstrip("0") for serial in self._revoked} == told, "the CRL tells other revocations"
            for serial, leaf in leaves.items():
                asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build()
                reply = client.post(
                    f"{base}/ocsp/{ca_id}",
                    content=asked.public_bytes(serialization.Encoding.DER),
                    headers={"Content-Type": "application/ocsp-request"},
                ).raise_for_status()
                said = ocsp.load_der_ocsp_response(reply.content).certificate_status
                revoked = serial in self._revoked
                assert said == (ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD), serial
        self._looked = True

    _looked = False

    def _ended_look(self) -> bool:
        return self._looked

    def play(self, chapter: str) -> None:
        """One chapter without any fault."""
        self.open(chapter)
        self.begin(chapter)
        self._until_ended(chapter)
        self.close(chapter)

    def open(self, chapter: str) -> None:
        """Note how things stand before a chapter."""
        self._looked = False
        if chapter == "start":
            self.town.nginx.start()
            self._placeholder = fingerprint(self.town.nginx.cert_path.read_text())
            self._probe()
        if chapter in {"renew", "revoke"}:
            self._before = self._count(f"type = '{'Renewal' if chapter == 'renew' else 'Revocation'}'")
        if chapter == "revoke":
            found = self.rows(f"SELECT serial_number FROM certificate_versions WHERE certificate_id = '{CERTIFICATE}'")
            self._revoked = {serial for (serial,) in found}

    def close(self, chapter: str) -> None:
        if chapter in {"request", "renew", "revoke"}:
            self.versions += 1
        sizes = [len(self._lines(who)) for who in ("server", "agent")]
        self.marks.append((chapter, *sizes))

    def _until_ended(self, chapter: str, seconds: float = 45) -> None:
        """Wait for the end, asking again (as every client may) while what was asked for does not stand."""
        again_at = time.monotonic() + 1.0

        def ended() -> bool:
            nonlocal again_at
            if self.ended(chapter):
                return True
            self._raise_the_dead()
            if time.monotonic() > again_at:
                again_at = time.monotonic() + 1.0
                with contextlib.suppress(sqlite3.OperationalError):
                    if not self.taken_on(chapter):
                        self.begin(chapter)
            return False

        self.town.wait(ended, f"the chapter {chapter} ends", seconds * self._patience)

    # -- the fire ------------------------------------------------------------------------------------------------------

    def strike(self, point: Point, victim: str = "") -> bool:
        """Play the point's chapter and strike `victim` (its own process unless named) there; False if it was not passed."""
        who = point.process
        arm = self.town.arm_file(who)
        self.open(point.chapter)
        reached = self._arm(point, "kill" if victim in {"", "replica"} else "hold")
        asking = threading.Thread(target=self.begin, args=(point.chapter,), daemon=True)
        asking.start()
        self._wait_reached(point, reached)
        passed = reached.exists()
        arm.unlink(missing_ok=True)
        if passed:
            self._strike(who, victim, Path(f"{arm}.go"))
        self._join(asking)
        self._until_ended(point.chapter)
        self.close(point.chapter)
        return passed

    def chain(self, chapter: str, points: list[Point]) -> None:
        """One chapter, dying at each of these points in turn; each death leaves the next one its beginnings."""
        self.open(chapter)
        missed: list[str] = []
        always = {one.name: one.always for one in read_points()}
        for point in points:
            # an agent that lives and waits for the server goes on the moment that it is back
            armed = self._arm(point, "kill") if point.process == "agent" else None
            if chapter != "start":
                self._raise_server()
                self.town.wait(self._up, "the server is ready")
            reached = armed or self._arm(point, "kill")
            # only now: a quick one would have passed the point before it was armed. Whether it lives is asked first: one that
            # dies at its point between the two questions has left its mark, and must not be started again unarmed
            if chapter != "start" and not self.alive("agent") and not (armed and armed.exists()):
                self._raise_agent()
            asking = threading.Thread(target=self.begin, args=(chapter,), daemon=True)
            asking.start()
            self._wait_reached(point, reached)
            self.town.arm_file(point.process).unlink(missing_ok=True)
            if reached.exists():
                getattr(self.town, point.process).wait(60)
            elif always[point.name]:
                missed.append(point.name)
            self._join(asking)
        if chapter != "start":
            self._raise_the_dead()
        self._until_ended(chapter)
        self.close(chapter)
        assert not missed, f"not passed: {missed}"

    def _join(self, asking: threading.Thread) -> None:
        """Who asked for this chapter is done: left over, it would ask in the middle of the next one."""
        asking.join(90 * self._patience)
        assert not asking.is_alive(), "what began the chapter never came to its end"

    def _up(self) -> bool:
        with contextlib.suppress(OSError, httpx.HTTPError):
            return self.town.call("GET", "/ready").status_code == 200
        return False

    def _arm(self, point: Point, mode: str) -> Path:
        arm = self.town.arm_file(point.process)
        reached = Path(f"{arm}.reached")
        reached.unlink(missing_ok=True)
        fresh = arm.with_name(f"{arm.name}.new")
        fresh.write_text(f"{mode} {point.name}")
        fresh.rename(arm)
        return reached

    def _wait_reached(self, point: Point, reached: Path) -> None:
        again_at = time.monotonic() + 1.5

        def done() -> bool:
            nonlocal again_at
            if reached.exists():
                return True
            if time.monotonic() > again_at:
                again_at = time.monotonic() + 1.5
                return self.ended(point.chapter)
            return False

        self.town.wait(done, f"{point.name} is passed, or the chapter ends without it", 40 * self._patience)

    def _strike(self, who: str, victim: str, go: Path) -> None:
        if victim == "":
            process = getattr(self.town, who)
            process.wait(60)
            assert process.returncode == -9, f"the {who} ended with {process.returncode}"
            self._raise_the_dead()
        elif victim == "replica":
            deadline = time.monotonic() + 60
            while self.alive("server") and self.second.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            dead = self.second if self.alive("server") else self.town.server
            assert dead.poll() == -9, "no replica died"
            self.town.server, self.second = (self.second if dead is self.town.server else self.town.server), None
        elif victim == "nginx":
            self.nginx_was_killed = True
            self.town.nginx.kill()
            go.touch()
            time.sleep(NGINX_RESTART_SECONDS)
            self._restart_nginx()
        elif victim == "postgres":
            assert self.postgres is not None
            self.postgres.crash()
            go.touch()
            self.postgres.start_again()

    def _restart_nginx(self) -> None:
        """As a service manager does: again and again, for between two renames its files do not belong together."""
        for _ in range(100):
            with contextlib.suppress(AssertionError):
                self.town.nginx.start()
                return
            time.sleep(0.1)
        raise AssertionError("NGINX never started again with the files it was left")

    def _raise_the_dead(self) -> None:
        """Start again what has ended: a service manager would."""
        self._raise_server()
        self._raise_agent()

    def _raise_server(self) -> None:
        if self.town.server is not None and not self.alive("server") and self.second is None:
            self.town.spawn_server()

    def _raise_agent(self) -> None:
        if self.town.agent is not None and not self.alive("agent"):
            self.town.spawn_agent()

    def alive(self, who: str) -> bool:
        process = getattr(self.town, who)
        return process is not None and process.poll() is None

    def add_replica(self) -> None:
        """A second server process on the same port and database, each with a socket of its own (SO_REUSEPORT)."""
        self.town.stop_server()
        self.town.spawn_server(CERTCTL_SERVER_CHILD="1")
        self.town.wait(self.town._ready, "the first replica is ready")
        first = self.town.server
        self.second = self.town.spawn_server(CERTCTL_SERVER_CHILD="2")
        self.town.server = first
        self.town.wait(
            lambda: self.town.log("server").count("ready") and self._two_listen(), "the second replica listens"
        )

    def _two_listen(self) -> bool:
        port = f":{self.town.api_port:04X} "
        return sum(port in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines()) == 2

    # -- judging ---------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """What must always hold, whatever died. Raises AssertionError."""
        self._judge_signed()
        self._judge_certificate()
        self._judge_served()

    def _judge_signed(self) -> None:
        """No signed leaf without a row, one serial one TBS, one intent a job, nothing recorded that was not signed."""
        orders = dict(self.rows(f"SELECT serial_number, {self._hex('tbs_der')} FROM orders"))
        recorded = {serial for (serial,) in self.rows("SELECT serial_number FROM certificate_versions")}
        by_serial: dict[str, set[str]] = defaultdict(set)
        leaves = set()
        for line in self.town.signed_file.read_text().splitlines():
            tbs = line.split()[1]
            certificate = certificate_of(bytes.fromhex(tbs))
            if certificate is None:
                continue
            serial = hex_serial(certificate)
            by_serial[serial].add(tbs)
            if is_leaf(certificate):
                leaves.add(serial)
                assert orders.get(serial, "").lower() == tbs, f"serial {serial} was signed without its stored intent"
        assert all(len(signed) == 1 for signed in by_serial.values()), "one serial signed two TBS"
        assert recorded == leaves, f"signed and recorded differ: {recorded ^ leaves}"
        doubled = self.rows("SELECT job_id FROM orders GROUP BY job_id HAVING count(*) > 1")
        assert not doubled, f"jobs with two intents: {doubled}"

    def _judge_certificate(self) -> None:
        where = f"certificate_id = '{CERTIFICATE}'"
        statuses = dict(self.rows(f"SELECT serial_number, status FROM certificate_versions WHERE {where}"))
        assert len(statuses) == self.versions, f"{len(statuses)} versions, not {self.versions}"
        revoked = {serial for serial, status in statuses.items() if status == "revoked"}
        assert revoked == self._revoked, "other versions are revoked than were asked for"
        if not self.versions:
            return
        assert sum(status == "current" for status in statuses.values()) == 1
        assert self.rows(f"SELECT status FROM managed_certificates WHERE id = '{CERTIFICATE}'") == [("Active",)]
        ended = self.rows(f"SELECT type, status, count(*) FROM jobs WHERE {where} GROUP BY type, status")
        assert {status for _, status, _ in ended} == {"Completed"}, ended
        issued = sum(int(count) for kind, _, count in ended if kind in {"Issuance", "Renewal"})
        deployed = sum(int(count) for kind, _, count in ended if kind == "Deployment")
        assert issued == deployed == self.versions, f"jobs doubled or lost: {ended}"
        shown = self.rows(f"SELECT status, count(*) FROM deployments WHERE {where} GROUP BY status")
        assert {status: int(count) for status, count in shown} == (
            {"verified": 1} | ({"superseded": self.versions - 1} if self.versions > 1 else {})
        ), shown
        open_steps = self.rows("SELECT kind, status FROM steps WHERE status IN ('ready', 'leased')")
        assert not open_steps, open_steps

    def _judge_served(self) -> None:
        """Valid pairs at every instant, each of them one that somebody recorded; the newest is served now."""
        assert self.prober is not None
        faults = list(self.prober.faults)
        if self.nginx_was_killed:
            faults = [fault for fault in faults if not fault.startswith(_CLOSED)]
            self.prober.faults.clear()
            self.nginx_was_killed = False
        assert faults == [], f"NGINX did not serve a valid pair at every instant: {faults[:3]}"
        found = self.rows(
            f"SELECT fingerprint_sha256, status FROM certificate_versions WHERE certificate_id = '{CERTIFICATE}'"
        )
        known = {self._placeholder, *(one for one, _ in found)}
        assert set(self.prober.seen) <= known, "NGINX served something that nobody recorded"
        current = [one for one, status in found if status == "current"]
        assert self.town.nginx.served() == (current[0] if current else self._placeholder)
        tls = list(self.town.nginx.tls_dir.iterdir())
        assert {path.name for path in tls} == {"cert.pem", "key.pem"}, f"left over: {tls}"

    # -- facts -----------------------------------------------------------------------------------------------------------

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        """Rows as text, read from the database itself."""
        if self.postgres is not None:
            assert self._url is not None
            text = self.postgres.sql(sql, self._url.rpartition("/")[2])
            return [tuple(line.split("|")) for line in text.splitlines()]
        path = self.town.server_dir / "certctl.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            return [tuple(str(value) for value in row) for row in connection.execute(sql)]

    def _hex(self, column: str) -> str:
        return f"encode({column}, 'hex')" if self.postgres is not None else f"hex({column})"

    def _count(self, where: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM jobs WHERE certificate_id = '{CERTIFICATE}' AND {where}")[0][0])

    def _live(self) -> bool:
        return self._count("status NOT IN ('Completed', 'Failed', 'Cancelled')") > 0

    def _leaves(self) -> tuple[str, x509.Certificate, dict[str, x509.Certificate]]:
        found = self.rows(
            f"SELECT ca_certificate_id, serial_number, {self._hex('leaf_der')} FROM certificate_versions "
            f"WHERE certificate_id = '{CERTIFICATE}'"
        )
        (ca_id,) = {ca for ca, _, _ in found}
        ((issuer,),) = self.rows(f"SELECT {self._hex('certificate_der')} FROM ca_certificates WHERE id = '{ca_id}'")
        leaves = {serial: x509.load_der_x509_certificate(bytes.fromhex(der)) for _, serial, der in found}
        return ca_id, x509.load_der_x509_certificate(bytes.fromhex(issuer)), leaves

    def _lines(self, who: str) -> list[str]:
        path = self.town.points_file(who)
        return path.read_text().splitlines() if path.exists() else []

    def recorded(self) -> list[Listed]:
        """Every point the played chapters passed, in the order in which it was first passed, with its chapters."""
        found: dict[tuple[str, str], list[str]] = {}
        for index, who in ((1, "server"), (2, "agent")):
            lines, begun = self._lines(who), 0
            for mark in self.marks:
                for name in dict.fromkeys(lines[begun : mark[index]]):
                    found.setdefault((who, name), []).append(mark[0])
                begun = mark[index]
        return [Listed(who, name, tuple(dict.fromkeys(chapters))) for (who, name), chapters in found.items()]

    @property
    def _identity(self) -> Path:
        return self.town.agent_dir / "state" / "agent.json"

    def _probe(self) -> None:
        # with patience the processors are shared: forty looks a second leave some of them to the others
        self.prober = Prober(self.town.nginx.port, 0.005 if self._patience == 1 else 0.02)
        self.prober.start()

    def stop(self) -> None:
        if self.prober is not None:
            self.prober.stop()
        if self.second is not None and self.second.poll() is None:
            self.second.terminate()
            self.second.wait(20)
        self.town.stop()


@contextlib.contextmanager
def playing(
    directory: Path, postgres: Postgres | None = None, until: str = "", nursery: Nursery | None = None
) -> Iterator[Play]:
    """A play for the length of the block, its chapters before `until` played without any fault."""
    play = Play(directory, postgres, nursery=nursery)
    try:
        for chapter in CHAPTERS[: CHAPTERS.index(until)] if until else ():
            play.play(chapter)
        yield play
    finally:
        play.stop()


def certificate_of(tbs: bytes) -> x509.Certificate | None:
    """The certificate that would come of these bytes, None for a CRL or an OCSP answer."""
    with contextlib.suppress(ValueError):
        der = assemble_certificate(tbs, SignatureAlgorithm.ECDSA_SHA256, b"\0")
        certificate = x509.load_der_x509_certificate(der)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return certificate
    return None


def hex_serial(certificate: x509.Certificate) -> str:
    from certctl.pki.fingerprints import serial_hex

    return serial_hex(certificate.serial_number)


def is_leaf(certificate: x509.Certificate) -> bool:
    """True for what was ordered; CAs and OCSP responders are made by the control plane for itself."""
    with contextlib.suppress(x509.ExtensionNotFound):
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    with contextlib.suppress(x509.ExtensionNotFound):
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return x509.ExtendedKeyUsageOID.OCSP_SIGNING not in usages
    return True
