"""dns-01 by a provider's API through dns-lexicon: a real PowerDNS, pebble judges; hanging, lying, killed, wrongly keyed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy
from certctl.connectors.solvers import lexicon
from certctl.connectors.solvers.lexicon import Account, LexiconSolver
from certctl.connectors.solvers.lexicon.errand import CHILD
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary
from certctl.core.secret import Secret
from peers.pebble import pebble
from peers.powerdns import ZONE, PowerDns, powerdns
from protocol.ca_house import CaHouse, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
_EMPTY_ZONE = b'{"kind": "Native", "rrsets": []}'
LOOPBACK = DialPolicy("issuers", allow=("127.0.0.0/8",))


@pytest.fixture(scope="module")
def names() -> Iterator[PowerDns]:
    with powerdns() as made:
        yield made


class Provider:
    """An API that is none: answers each request with `answer`, or never."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.asked = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            if self.answer is None:
                await reader.read()
            else:
                writer.write(self.answer)
                await writer.drain()
        writer.close()


def told(status: str, body: bytes, *more: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more))
    return f"{head}Connection: close\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


def solver(names: PowerDns, url: str = "", key: str = "", policy: DialPolicy = LOOPBACK) -> LexiconSolver:
    account = Account(
        provider="powerdns",
        options={"pdns_server": url or names.api},
        secrets=Secret(f"auth_token={key or names.key}"),
        zone=ZONE,
        watched=(names.resolver,),
        resolver=names.resolver,
    )
    return LexiconSolver(account, policy)


def children() -> list[int]:
    """The processes of providers' clients that this one runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and str(CHILD) in (path / "cmdline").read_text():
                found.append(int(path.name))
    return found


async def test_records_of_one_name_are_put_beside_each_other_and_each_is_taken_alone(names):
    made, where = solver(names), f"_acme-challenge.www.{ZONE}"
    proofs = [Proof(f"www.{ZONE}", f"token{number}", f"token{number}.x") for number in range(2)]
    await asyncio.gather(*(made.present(proof) for proof in proofs))
    assert len(names.texts(where)) == 2, "clients read all and write all: two at once would lose one"
    assert await made.is_visible(proofs[1])
    await made.cleanup(proofs[1])
    assert len(names.texts(where)) == 1
    assert not await made.is_visible(proofs[1])
    await made.cleanup(proofs[0])
    assert names.texts(where) == []


async def test_a_provider_that_is_wrong_lies_or_leads_inside_is_told_apart(names, tmp_path):
    proof = Proof(f"bad.{ZONE}", "token", "token.x")
    wrong = "a-key-that-is-none"
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(Misconfigured, match="does not accept the credentials") as refused:
            await solver(names, key=wrong).present(proof)
        assert wrong not in refused.value.message
        with pytest.raises(Misconfigured, match="is not dialled"):
            await solver(names, policy=DialPolicy("issuers")).present(proof)
        with pytest.raises(Misconfigured, match="wanted what none may"):
            # a path is a local socket for this provider: none of this host's is reached
            await solver(names, url="/proc/self/exe").present(proof)
        async with provider() as api:
            for answer, family, said in (
                (told("302 Found", b"", "Location: http://169.254.169.254/latest"), Misconfigured, "cloud metadata"),
                (told("200 OK", f'{{"key": "{wrong}'.encode()), (Rejected, Temporary), "powerdns"),
                (told("500 No", b"", f"X-Key: {wrong}"), Temporary, "tried again"),
                (told(f"404 {wrong}", b""), Rejected, "did not do it"),
            ):
                api.answer = answer
                with pytest.raises(family) as caught:
                    await solver(names, url=api.url, key=wrong).present(proof)
                assert isinstance(caught.value, ConnectorError)
                assert said in caught.value.message, caught.value
                assert wrong not in caught.value.message
            # one that says yes and does nothing: what counts is what the zone's servers show
            api.answer = told("200 OK", _EMPTY_ZONE)
            made = solver(names, url=api.url)
            await made.present(proof)
            assert not await made.is_visible(proof)
    assert wrong not in str(logs)
    assert names.key not in str(logs)
    assert children() == []


async def test_a_certificate_by_a_provider_that_hangs_is_killed_and_comes_back(tmp_path, names, monkeypatch):
    with pebble(names.resolver) as ca:
        async with open_ca_house(tmp_path) as house, provider() as api:
            shown = await house.issuer(ca.config(**names.config()))
            assert shown["config"]["dns_provider_secrets"] == "[redacted]"
            assert shown["config"]["dns_provider_options"]["pdns_server"] == names.api
            with structlog.testing.capture_logs() as logs:
                await house.ask("cert-1", f"shop.{ZONE}", f"*.shop.{ZONE}")
                await house.issued("cert-1")
                assert names.texts(f"_acme-challenge.shop.{ZONE}") == [], "both records are gone again"

                change = {"dns_provider_options": {"pdns_server": api.url}}
                await house.api.call("PATCH", "/api/v1/issuers/iss-acme", {"config": change})
                await house.ask("cert-2", f"slow.{ZONE}")
                monkeypatch.setattr(lexicon, "LIMIT", timedelta(seconds=2))
                job = await fails(house, "did not end within 2 s")
                assert job["status"] == "Running", "it is tried again"
                assert children() == []

                monkeypatch.setattr(lexicon, "LIMIT", timedelta(seconds=60))
                api.asked.clear()
                killing = asyncio.create_task(kill_when_asked(api))
                house.api.clock.moment += timedelta(hours=1)
                await fails(house, "killed by signal 9")
                await killing

                back = {"dns_provider_options": {"pdns_server": names.api}}
                await house.api.call("PATCH", "/api/v1/issuers/iss-acme", {"config": back})
                house.api.clock.moment += timedelta(hours=1)
                await house.issued("cert-2")
            assert ca.count("Issued certificate serial") == 2, "one certificate an intent"
            assert names.texts(f"_acme-challenge.slow.{ZONE}") == []
            assert names.key not in str(logs)
            for table in ("issuers", "audit_events", "jobs"):
                assert names.key not in str(await house.rows(table))


async def kill_when_asked(api: Provider) -> None:
    async with asyncio.timeout(60):
        await api.asked.wait()
    (child,) = children()
    os.kill(child, signal.SIGKILL)


async def fails(house: CaHouse, said: str) -> Any:
    """The job of the slow one, once it tells that."""

    async def waits() -> Any:
        jobs = [job for job in await house.jobs() if job["certificate_id"] == "cert-2"]
        return jobs[0] if said in (jobs[0].get("last_error") or "") else None

    return await house.run(waits, said)
