"""Many ACME clients at once, each on a connection of its own, at whichever of several replicas still answers.

They do what clients do: a lost connection, a bad nonce and a server that is busy are tried again, an order that another
has finalized is asked for until it has ended. `make test` sends thousands of them, `make bench` a hundred thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from certctl.wire.jws import decode
from peers.postgres import Postgres
from peers.replicas import Replica, Replicas, replicas
from protocol.acme_house import csr_for, jwk_of, new_key, sign

PROFILE = "/acme/profile/prof-default"
OURS = {name: f"{PROFILE}/{name}" for name in ("new-nonce", "new-account", "new-order")}
PATIENCE = 120
_LOST = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)


@dataclass(frozen=True)
class Door:
    """A replica, or another ACME server, as clients see it."""

    port: int
    ca_path: Path
    host: str = "localhost"

    @property
    def base(self) -> str:
        return f"https://{self.host}:{self.port}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, ssl=self.context())

    def context(self) -> ssl.SSLContext:
        kept = _CONTEXTS.get(self)
        if kept is None:
            kept = _CONTEXTS[self] = ssl.create_default_context(cafile=str(self.ca_path))
        return kept


_CONTEXTS: dict[Door, ssl.SSLContext] = {}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Speaker:
    """One client; several of them may speak for one account. Not for two tasks at once."""

    doors: Sequence[Door]
    key: Any
    account: str = ""
    at: int = 0
    nonce: str = ""
    lost: int = 0
    paths: Mapping[str, str] = field(default_factory=lambda: OURS)
    _line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, repr=False)

    def beside(self, at: int) -> Speaker:
        """Another client of the same account, that begins at the door of that number."""
        return Speaker(self.doors, self.key, self.account, at % len(self.doors), paths=self.paths)

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """One exchange at the door where it stands; an error of `_LOST` when the line breaks."""
        if self._line is None:
            self._line = await self.doors[self.at].open()
        reader, writer = self._line
        head = f"{method} {path} HTTP/1.1\r\nhost: {self.doors[self.at].base[8:]}\r\nuser-agent: crowd\r\n"
        if body:
            head += f"content-type: application/jose+json\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        octets = await reader.readexactly(int(headers.get("content-length", "0"))) if method != "HEAD" else b""
        self.nonce = headers.get("replay-nonce", "")
        return Answer(int(lines[0].split(" ")[1]), headers, octets)

    async def post(self, path: str, payload: Any = None, *, by_key: bool = False) -> Answer:
        """A signed request, tried again at another door when this one is gone, and when the server says so."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    answer = await self._post(path, payload, by_key=by_key)
                except _LOST:
                    self.close()
                    self.lost += 1
                    self.at = (self.at + 1) % len(self.doors)
                    await asyncio.sleep(0.02)
                    continue
                if answer.status == 503 or (answer.status == 400 and answer.json()["type"].endswith(":badNonce")):
                    await asyncio.sleep(0.05)
                    continue
                return answer

    async def _post(self, path: str, payload: Any, *, by_key: bool) -> Answer:
        if not self.nonce:
            await self.ask("HEAD", self.paths["new-nonce"])
        base, nonce = self.doors[self.at].base, self.nonce
        who = {"jwk": jwk_of(self.key)} if by_key else {"kid": f"{base}{self.account}"}
        header = {"alg": "ES256", "nonce": nonce, "url": f"{base}{path}", **who}
        octets = b"" if payload is None else json.dumps(payload).encode()
        return await self.ask("POST", path, json.dumps(sign(self.key, header, octets)).encode())

    async def register(self, kid: str = "", secret: bytes = b"") -> None:
        """Make the account, bound to an external one where there is one."""
        payload: dict[str, Any] = {"termsOfServiceAgreed": True}
        if kid:
            url = f"{self.doors[self.at].base}{self.paths['new-account']}"
            header = {"alg": "HS256", "kid": kid, "url": url}
            payload["externalAccountBinding"] = sign(secret, header, json.dumps(jwk_of(self.key)).encode())
        answer = await self.post(self.paths["new-account"], payload, by_key=True)
        assert answer.status == 201, answer
        self.account = path_of(answer.headers["location"])

    async def order(self, name: str) -> Answer:
        """A new order; its path is in `location`."""
        answer = await self.post(self.paths["new-order"], {"identifiers": [{"type": "dns", "value": name}]})
        assert answer.status == 201, answer
        return answer

    async def finalize(self, order: str, csr: str) -> Answer:
        """Finalize an order of ours, by its path."""
        return await self.post(f"{order}/finalize", {"csr": csr})

    async def ended(self, order: str) -> dict[str, Any]:
        """The order once it is no longer under way."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.post(order)
                assert answer.status == 200, answer
                if answer.json()["status"] not in {"ready", "processing"}:
                    return answer.json()
                await asyncio.sleep(0.2)

    async def fetched(self, done: dict[str, Any]) -> x509.Certificate:
        """The certificate of an order that is valid."""
        answer = await self.post(path_of(done["certificate"]))
        assert answer.status == 200, answer
        return x509.load_pem_x509_certificates(answer.body)[0]

    def close(self) -> None:
        line, self._line, self.nonce = self._line, None, ""
        if line is not None:
            with contextlib.suppress(*_LOST):
                line[1].transport.abort()


def path_of(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


@dataclass
class Wanted:
    """One order, the CSRs that are sent for it (each of a key of its own), and what came of it."""

    name: str
    path: str
    csrs: list[str]
    keys: list[Any]
    accepted: int = 0


async def wanted(speaker: Speaker, count: int, *, csrs: int = 2, clients: int = 10, stem: str = "once") -> list[Wanted]:
    """Make so many orders, `clients` at a time."""
    made: list[Wanted] = []
    numbers = iter(range(count))

    async def one(client: Speaker) -> None:
        for number in numbers:
            name, keys = f"{stem}{number}.example", [new_key() for _ in range(csrs)]
            path = path_of((await client.order(name)).headers["location"])
            made.append(Wanted(name, path, [csr_for([name], key) for key in keys], keys))
        client.close()

    await asyncio.gather(*(one(speaker.beside(number)) for number in range(clients)))
    return made


@dataclass
class Rush:
    """What a crowd saw."""

    answers: dict[str, int] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0


async def rush(
    speaker: Speaker,
    orders: Sequence[Wanted],
    *,
    each: int,
    clients: int,
    at_half: Callable[[], object] = lambda: None,
) -> Rush:
    """Finalize every order `each` times, `clients` of them in flight; `at_half` is called when half of it was sent.

    The finalizes of one order are sent one right after the other, by different clients at different doors.
    """
    sent, half = 0, len(orders) * each // 2
    work = iter([(order, number) for order in orders for number in range(each)])
    seen = Rush()

    async def one(client: Speaker) -> None:
        nonlocal sent
        for order, number in work:
            sent += 1
            if sent == half:
                at_half()
            started = time.perf_counter()
            answer = await client.finalize(order.path, order.csrs[number % len(order.csrs)])
            seen.took.append(time.perf_counter() - started)
            told = answer.json()
            word = str(told["status"]) if answer.status == 200 else str(told["type"]).rpartition(":")[2]
            seen.answers[word] = seen.answers.get(word, 0) + 1
            order.accepted += answer.status == 200
        seen.lost += client.lost
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(one(speaker.beside(number)) for number in range(clients)))
    seen.seconds = time.perf_counter() - started
    return seen


ENVIRON = {
    "CERTCTL_ACME_SERVER_ENABLED": "true",
    "CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS": "0",
    "CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR": "0",
    # everybody lives at one address here
    "CERTCTL_RATE_LIMIT_ENABLED": "false",
    # what the dead one held is another's soon
    "CERTCTL_STEP_LEASE": "3s",
    "CERTCTL_LOG_LEVEL": "warn",
}


async def known(row: Replicas, doors: Sequence[Door], at: int) -> Speaker:
    """A client with an account that somebody vouched for."""
    body = {"name": "crowd", "profile_id": "prof-default"}
    bound = row.all[at].did("POST", "/api/v1/acme/external-account-keys", body, row.key)
    speaker = Speaker(doors, new_key(), at=at)
    await speaker.register(bound["id"], decode(bound["hmac_key"], "key"))
    return speaker


def exactly_once(directory: Path, postgres: Postgres, *, orders: int, each: int, clients: int) -> Rush:
    """Finalize each order so many times at two replicas, kill one half way, judge what came of it; what was seen."""
    with replicas(directory, postgres) as row:
        first, second = row.add(**ENVIRON), row.add(**ENVIRON)
        return asyncio.run(_story(row, first, second, (orders, each, clients)))


async def _story(row: Replicas, first: Replica, second: Replica, numbers: tuple[int, int, int]) -> Rush:
    doors = [Door(one.port, one.directory / "data" / "ca.pem") for one in (first, second)]
    # at the one that lives on
    speaker = await known(row, doors, 1)
    try:
        return await _rushed(row, speaker, first, numbers)
    finally:
        speaker.close()
        # an aborted line is closed by the loop's next round
        await asyncio.sleep(0)


async def _rushed(row: Replicas, speaker: Speaker, first: Replica, numbers: tuple[int, int, int]) -> Rush:
    count, each, clients = numbers
    orders = await wanted(speaker, count)
    assert first.process is not None
    seen = await rush(speaker, orders, each=each, clients=clients, at_half=first.process.kill)
    first.process.wait(60)
    assert set(seen.answers) <= {"valid", "processing", "orderNotReady"}, seen.answers
    # the dead one took answers with it: those who asked it asked the other again
    assert seen.lost > 0
    leaves = await _collected(speaker, orders)
    _judge(row, [f"{leaf.serial_number:x}" for leaf in leaves], count)
    return seen


async def _collected(speaker: Speaker, orders: list[Wanted]) -> list[x509.Certificate]:
    """Every order's certificate, as its client gets it: for the one name, and for one of the keys that were sent."""
    left, leaves = iter(orders), []

    async def collect(client: Speaker) -> None:
        for order in left:
            done = await client.ended(order.path)
            assert done["status"] == "valid", (order.name, done)
            leaf = await client.fetched(done)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [order.name]
            assert leaf.public_key() in [key.public_key() for key in order.keys]
            # said yes to once, or not at all: its answer was lost with the replica
            assert order.accepted <= 1, order.name
            leaves.append(leaf)
        client.close()

    await asyncio.gather(*(collect(speaker.beside(1)) for _ in range(8)))
    return leaves


def _judge(row: Replicas, serials: list[str], count: int) -> None:
    """The database's own account: one certificate, version, job and intent an order; no serial beyond these was drawn."""
    assert len(set(serials)) == count
    of_acme = "certificate_id IN (SELECT id FROM managed_certificates WHERE source = 'ACME')"
    assert row.count("FROM managed_certificates WHERE source = 'ACME'") == count
    assert row.count(f"FROM jobs WHERE {of_acme}") == count
    drawn = row.rows(f"SELECT serial_number, status FROM orders WHERE job_id IN (SELECT id FROM jobs WHERE {of_acme})")
    assert sorted(serial for serial, _ in drawn) == sorted(serials)
    assert {status for _, status in drawn} == {"recorded"}
    written = row.rows(f"SELECT serial_number FROM certificate_versions WHERE {of_acme}")
    assert sorted(serial for (serial,) in written) == sorted(serials)
    assert row.count("FROM acme_orders WHERE status = 'valid'") == row.count("FROM acme_orders") == count
