"""A control plane in this process whose issuer is an ACME CA, and what tests do with it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import dns.message
import dns.query
import dns.rdatatype
import httpx

from certctl.cli import issuer_accounts, output
from certctl.cli import main as cli
from certctl.client import Client
from certctl.core.names import parse_names
from certctl.core.secret import Secret
from certctl.doors import driving
from certctl.lifecycle import flow
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from integration.api_house import Api, open_api
from peers.bind import Bind

_SECONDS = 180


@dataclasses.dataclass
class CaHouse:
    """The API, and an issuer that asks somebody else."""

    api: Api
    issuer_id: str = "iss-acme"
    keys: dict[str, Any] = dataclasses.field(default_factory=dict)

    async def issuer(self, config: dict[str, Any], issuer_id: str = "iss-acme") -> dict[str, Any]:
        """Create the issuer."""
        self.issuer_id = issuer_id
        return await self.api.made(
            "/api/v1/issuers", {"id": issuer_id, "name": issuer_id, "type": "acme", "config": config}
        )

    async def ask(self, certificate_id: str, *names: str, **more: Any) -> dict[str, Any]:
        """Ask for a certificate with a key of the client's own."""
        key = self.keys.setdefault(certificate_id, generate_private_key(KeyAlgorithm.ECDSA_P256))
        pem = csr_pem(build_csr(key, names[0], parse_names(list(names))))
        body = {
            "id": certificate_id,
            "common_name": names[0],
            "sans": list(names),
            "issuer_id": self.issuer_id,
            "csr_pem": pem,
        }
        return await self.api.made("/api/v1/certificates", body | more)

    async def run(self, until: Callable[[], Any], what: str) -> Any:
        """Run what is due, the clock going as it does, until it is so."""
        end = asyncio.get_running_loop().time() + _SECONDS
        while asyncio.get_running_loop().time() < end:
            self.api.clock.moment = max(datetime.now(UTC), self.api.clock.moment + timedelta(milliseconds=200))
            claimed = await flow.claim(self.api.house.ctx, 20)
            if claimed:
                await flow.run_claimed(self.api.house.ctx, claimed)
            if found := await until():
                return found
            if not claimed:
                await asyncio.sleep(0.1)
        raise AssertionError(f"not within {_SECONDS} s: {what}: {await self.jobs()}")

    async def jobs(self) -> list[dict[str, Any]]:
        return (await self.api.get("/api/v1/jobs"))["data"]

    async def ended(self, certificate_id: str) -> dict[str, Any]:
        """The newest issuing job of a certificate, once it has ended."""

        async def done() -> Any:
            jobs = [job for job in await self.jobs() if job["certificate_id"] == certificate_id]
            return next((job for job in jobs[:1] if job["status"] in {"Completed", "Failed"}), None)

        return await self.run(done, f"{certificate_id} has ended")

    async def issued(self, certificate_id: str) -> dict[str, Any]:
        """Its newest version, once its job has completed."""
        job = await self.ended(certificate_id)
        assert job["status"] == "Completed", job
        return (await self.api.get(f"/api/v1/certificates/{certificate_id}/versions"))["data"][0]

    async def rows(self, table: str, columns: str = "*") -> list[Any]:
        """Rows of the database as they are."""
        import sqlalchemy as sa

        async with self.api.house.database.read() as tx:
            return list((await tx.execute(sa.text(f"SELECT {columns} FROM {table}"))).all())


class Beside(httpx.BaseTransport):
    """What a command in a thread sends, handed to the API of this process."""

    def __init__(self, http: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._http = http
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._ask(request), self._loop).result(_SECONDS)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._http.request(
            request.method, request.url.raw_path.decode(), content=request.read(), headers=request.headers
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


async def certctl(house: CaHouse, monkeypatch: Any, capsys: Any, *words: str) -> str:
    """What `certctl issuers ...` writes that ends well, spoken to this house."""
    loop = asyncio.get_running_loop()

    def connect() -> Client:
        return Client("https://certctl.test", Secret(house.api.admin), transport=Beside(house.api.http, loop))

    def run() -> object:
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0
        return 0

    monkeypatch.setattr(issuer_accounts, "connect", connect)
    monkeypatch.setattr(sys, "argv", ["certctl", "issuers", *words])
    output.assume(output.Form.TABLE)
    capsys.readouterr()
    code = await asyncio.to_thread(run)
    told = capsys.readouterr()
    assert code == 0, told.err
    return told.out


def left_at(names: Bind, name: str) -> list[str]:
    """TXT records that are there at a name."""
    asked = dns.message.make_query(name, "TXT")
    answer = dns.query.tcp(asked, names.address, timeout=30, port=names.port)
    return [str(record) for rrset in answer.answer for record in rrset if rrset.rdtype == dns.rdatatype.TXT]


def by_dns(names: Bind, **more: Any) -> dict[str, Any]:
    """The part of an issuer's configuration that proves names by that name server."""
    return {
        "challenge_type": "dns-01",
        "dns_server": names.resolver,
        "dns_resolver": names.resolver,
        "propagation_servers": [names.resolver],
        "tsig_name": "up",
        "tsig_secret": names.secret,
    } | more


@contextlib.asynccontextmanager
async def open_ca_house(
    data_dir: Path, url: str = "", *, again: bool = False, **environ: str
) -> AsyncIterator[CaHouse]:
    """A house that may ask CAs on loopback; `again`: of an installation that is there already."""
    told = {"CERTCTL_ISSUERS_ALLOWED_NETWORKS": "127.0.0.0/8"} | environ
    async with open_api(data_dir, url, new=not again, **told) as api:
        # what a request drives itself is no subject here: a test says what runs, and when
        with mock.patch.object(driving, "BUDGET", timedelta(0)):
            yield CaHouse(api)
