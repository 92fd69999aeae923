"""Exactly once: however many finalize one order, wherever, whoever dies: one certificate, or the order as it was."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certctl.wire.jws import decode
from peers.replicas import Replica, replicas
from protocol.acme_house import Client, csr_for, open_acme, problem

PATIENCE = 90
ORDERS = 12


async def test_many_finalizes_of_one_order_give_one_certificate(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as house:
        client = await house.known()
        order = (await client.order("a.example")).json()
        many = [dataclasses.replace(client, nonce="") for _ in range(12)]
        answers = await asyncio.gather(*(one.post(order["finalize"], {"csr": csr_for(["a.example"])}) for one in many))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {(answer.status_code, problem(answer)) for answer in refused} == {(403, "orderNotReady")}
        assert len(refused) == len(many) - 1
        (found,) = (await house.api.get("/api/v1/certificates?q=a.example"))["data"]
        assert (await house.api.get(f"/api/v1/certificates/{found['id']}/versions"))["total"] == 1


async def test_a_nonce_is_good_once_however_many_try_at_once(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as house:
        client = await house.known()
        nonce = await client.fresh()
        many = [dataclasses.replace(client, nonce="") for _ in range(8)]
        answers = await asyncio.gather(*(one.post(client.kid, nonce=nonce) for one in many))
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
        assert {problem(answer) for answer in answers if answer.status_code == 400} == {"badNonce"}


async def test_one_key_registered_many_times_at_once_is_one_account(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as house:
        eab, key = await house.eab(), ec.generate_private_key(ec.SECP256R1())
        many = [house.client(key=key) for _ in range(6)]
        answers = await asyncio.gather(*(one.register(eab) for one in many))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
        assert len({answer.headers["location"] for answer in answers}) == 1


async def test_a_certificate_is_replaced_by_one_order_of_many(tmp_path, database_url):
    from cryptography import x509

    from certctl.wire.acme import CertificateId

    async with open_acme(tmp_path / "data", database_url) as house:
        client = await house.known()
        _, pem = await client.issued("a.example")
        leaf = x509.load_pem_x509_certificate(pem.encode())
        aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        name = str(CertificateId(aki, leaf.serial_number))
        many = [dataclasses.replace(client, nonce="") for _ in range(6)]
        answers = await asyncio.gather(*(one.order("a.example", replaces=name) for one in many))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5


def acme_replicas(tmp_path, postgres_server):
    environ = {
        "CERTCTL_ACME_SERVER_ENABLED": "true",
        "CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS": "0",
        "CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR": str(ORDERS + 1),
        "CERTCTL_STEP_LEASE": "2s",
        # everybody lives at one address here, and a fast machine calls more often than it may
        "CERTCTL_RATE_LIMIT_ENABLED": "false",
    }
    row = replicas(tmp_path, postgres_server)
    return row, environ


@contextlib.asynccontextmanager
async def speaking(replica: Replica, known: Client | None = None):
    """A client of one replica; an account that another one made is known here too."""
    context = ssl.create_default_context(cafile=str(replica.directory / "data" / "ca.pem"))
    base = f"https://localhost:{replica.port}/acme/profile/prof-default"
    async with httpx.AsyncClient(verify=context, timeout=60, trust_env=False) as http:
        client = Client(http, base=base)
        if known is not None:
            client.key, client.kid = known.key, known.kid.replace(known.base, base)
        yield client


async def ended(client: Client, url: str) -> dict:
    async with asyncio.timeout(PATIENCE):
        while True:
            order = (await client.post(url)).json()
            if order["status"] not in {"processing"}:
                return order
            await asyncio.sleep(0.2)


@pytest.mark.real
@pytest.mark.timeout(600)
async def test_replicas_die_while_they_finalize_and_nothing_is_issued_twice_or_lost(tmp_path, postgres_server):
    row, environ = acme_replicas(tmp_path, postgres_server)
    with row as both:
        one, two = both.add(**environ), both.add(**environ)
        body = {"name": "eab", "profile_id": "prof-default"}
        made = one.did("POST", "/api/v1/acme/external-account-keys", body, both.key)
        async with speaking(two) as second, contextlib.AsyncExitStack() as stack:
            assert (await second.register((made["id"], decode(made["hmac_key"], "key")))).status_code == 201
            await _before(one, second)
            one.start()
            first = await stack.enter_async_context(speaking(one, second))
            await _after(one, first, second)
            # so many an hour wherever they were made: one of them at the first, the others at the second
            for client in (first, second):
                full = await client.order("more.example")
                assert (full.status_code, problem(full)) == (429, "rateLimited")
                assert int(full.headers["retry-after"]) > 0
        of_acme = (
            "FROM managed_certificates c JOIN certificate_versions v ON v.certificate_id = c.id WHERE c.source = 'ACME'"
        )
        assert both.count(of_acme) == both.count("FROM managed_certificates WHERE source = 'ACME'") == ORDERS + 1
        assert both.count("FROM acme_orders WHERE status = 'valid'") == ORDERS + 1


async def _before(one: Replica, second: Client) -> None:
    """It dies as it commits: what was not committed did not happen, and the order is as it was."""
    async with speaking(one, second) as first:
        order = (await first.order("before.example")).json()
        one.arm_file.write_text("kill commit.acme.finalize.before\n")
        with pytest.raises(httpx.HTTPError):
            await first.post(order["finalize"], {"csr": csr_for(["before.example"])})
        one.process.wait(60)
        url = order["finalize"].replace(first.base, second.base).removesuffix("/finalize")
    assert (await ended(second, url))["status"] == "ready"
    assert (await second.post(f"{url}/finalize", {"csr": csr_for(["before.example"])})).status_code == 200
    assert (await ended(second, url))["status"] == "valid"


async def _after(one: Replica, first: Client, second: Client) -> None:
    """Every order is finalized at both at once; one of them dies when it has committed an order: another ends that."""
    names = [f"h{number}.example" for number in range(ORDERS)]
    orders = [(await second.order(name)).json() for name in names]

    async def finalize(client: Client, name: str, url: str) -> int:
        own = dataclasses.replace(client, nonce="")
        with contextlib.suppress(httpx.HTTPError):
            answer = await own.post(url.replace(second.base, client.base), {"csr": csr_for([name])})
            assert answer.status_code in {200, 403}, answer.text
            return answer.status_code
        return 0

    pairs = [(name, order["finalize"]) for name, order in zip(names, orders, strict=True)]
    # it dies with a job that is ready to be issued, and with a certificate that is signed and not stored
    deaths = ("commit.acme.finalize.after", "commit.issue.record.before")
    for point, pair in zip(deaths, pairs, strict=False):
        one.arm_file.write_text(f"kill {point}\n")
        # what is to die is first alone with an order, so that it is it that commits one
        assert await finalize(first, *pair) == 0
        one.process.wait(60)
        one.start()
    said = await asyncio.gather(*(finalize(client, *pair) for pair in pairs for client in (first, second)))
    assert said.count(200) == ORDERS - len(deaths)
    for name, url in pairs:
        found = await ended(second, url.removesuffix("/finalize"))
        assert found["status"] == "valid", (name, found)
        assert (await second.post(found["certificate"])).status_code == 200
