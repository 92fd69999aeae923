"""Proof of control against a real BIND and real web and TLS servers: each challenge, what it refuses, and what it must not reach."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import ipaddress
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from certctl.connectors.validation import Prover
from certctl.core.acme import AcmeChallenge
from certctl.protocols.acme.validating import MOST_ATTEMPTS, Validator
from certctl.store.acme import CHANNEL, get, has_work
from certctl.wire.jws import decode, encode, read_jwk
from peers.bind import ZONE, Bind, bind
from peers.ports import free_port
from peers.responders import Web, challenge_certificate, tls_server
from peers.wavering import wavering
from protocol.acme_house import Client, csr_for, jwk_of, open_acme, problem

PATIENCE = 60


@pytest.fixture(scope="module")
def names() -> Bind:
    with bind() as server:
        yield server


@pytest.fixture
def web():
    with Web() as server:
        yield server


@contextlib.asynccontextmanager
async def validating(tmp_path, names: Bind, **rules):
    """An ACME server in challenge mode whose validator runs, and a client with an account."""
    chosen = {"resolver": names.resolver, "allowed_networks": ("127.0.0.0/8",)} | rules
    async with open_acme(tmp_path / "data", **chosen) as house:
        changed = await house.api.call(
            "PUT", "/api/v1/profiles/prof-default", {"acme_auth_mode": "challenge", "allow_short_lived": False}
        )
        assert changed.status_code == 200, changed.text
        validator = Validator(house.api.house.ctx, house.api.house.wakeups, house.rules, Prover(house.rules))
        running = asyncio.create_task(validator.run())
        client = house.client()
        assert (await client.register()).status_code == 201
        try:
            yield house, client
        finally:
            validator.stop()
            async with asyncio.timeout(PATIENCE):
                await running


async def challenge(client: Client, name: str, kind: str):
    """A fresh order's challenge of one kind: (order, authorization URL, challenge, key authorization)."""
    order = (await client.order(name)).json()
    proof = (await client.post(order["authorizations"][0])).json()
    way = next(each for each in proof["challenges"] if each["type"] == kind)
    return order, order["authorizations"][0], way, f"{way['token']}.{read_jwk(jwk_of(client.key)).thumbprint}"


async def decided(house, client: Client, url: str):
    """The authorization once it is decided; the clock moves on, as retries wait for it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await client.post(url)).json()
            if found["status"] != "pending":
                return found
            house.api.clock.moment += timedelta(seconds=5)
            house.api.house.wakeups.tell((CHANNEL,))
            await asyncio.sleep(0.03)


async def refused(house, client: Client, url: str) -> str:
    """The problem type that the challenge ended with."""
    found = await decided(house, client, url)
    assert found["status"] == "invalid", found
    return found["challenges"][0]["error"]["type"].rpartition(":")[2]


async def test_http_01_is_fetched_from_the_name_and_makes_the_order_ready(tmp_path, names, web):
    async with validating(tmp_path, names, http_port=web.port) as (house, client):
        name = f"shop.web.{ZONE}"
        order, url, way, content = await challenge(client, name, "http-01")
        assert order["status"] == "pending"
        early = await client.post(order["finalize"], {"csr": csr_for([name])})
        assert (early.status_code, problem(early)) == (403, "orderNotReady")
        web.pages[f"/.well-known/acme-challenge/{way['token']}"] = f"{content}\n".encode()
        begun = await client.post(way["url"], {})
        assert (begun.json()["status"], begun.headers["retry-after"]) == ("processing", "1")
        found = await decided(house, client, url)
        assert found["status"] == "valid", found
        assert [each["type"] for each in found["challenges"]] == ["http-01"]
        assert web.asked[0][0] == f"{name}:{web.port}"
        done = await client.post(order["finalize"], {"csr": csr_for([name])})
        assert done.json()["status"] == "valid", done.text


async def test_http_01_follows_a_few_redirects_and_none_to_elsewhere(tmp_path, names, web):
    path = "/.well-known/acme-challenge/"
    names.set(f"inside.{ZONE}.", "A", "10.20.30.40")
    async with validating(tmp_path, names, http_port=web.port) as (house, client):
        _, url, way, content = await challenge(client, f"a.web.{ZONE}", "http-01")
        web.pages[path + way["token"]] = (302, {"location": "/moved"}, b"")
        web.pages["/moved"] = content.encode()
        await client.post(way["url"], {})
        assert (await decided(house, client, url))["status"] == "valid"
        for location in (
            f"http://inside.{ZONE}/x",
            "http://169.254.169.254/latest",
            "ftp://a/",
            "/loop",
            "http://[::1]:22/",
            "",
        ):
            _, url, way, _ = await challenge(client, f"b.web.{ZONE}", "http-01")
            web.pages[path + way["token"]] = (302, {"location": location}, b"")
            web.pages["/loop"] = (301, {"location": "/loop"}, b"")
            await client.post(way["url"], {})
            assert await refused(house, client, url) == "connection", location


async def test_http_01_takes_nothing_but_the_key_authorization(tmp_path, names, web):
    async with validating(tmp_path, names, http_port=web.port) as (house, client):
        for body in (b"", b"something else", b"x" * 100_000, (500, {}, b""), None):
            order, url, way, content = await challenge(client, f"c.web.{ZONE}", "http-01")
            if body is not None:
                web.pages[f"/.well-known/acme-challenge/{way['token']}"] = body
            await client.post(way["url"], {})
            assert await refused(house, client, url) in {"incorrectResponse", "connection"}
        shown = (await client.post(url)).json()
        assert shown["status"] == "invalid"
        again = await client.post(order["finalize"], {"csr": csr_for([f"c.web.{ZONE}"])})
        assert problem(again) == "orderNotReady"


async def test_dns_01_proves_names_and_wildcards(tmp_path, names, web):
    async with validating(tmp_path, names) as (house, client):
        for name in (f"d.{ZONE}", f"*.d.{ZONE}"):
            order, url, way, content = await challenge(client, name, "dns-01")
            value = encode(hashlib.sha256(content.encode()).digest())
            names.set(f"_acme-challenge.d.{ZONE}.", "TXT", '"another"', f'"{value}"')
            await client.post(way["url"], {})
            assert (await decided(house, client, url))["status"] == "valid"
            assert (await client.post(order["finalize"], {"csr": csr_for([name])})).json()["status"] == "valid"
        wild = (await client.order(f"*.e.{ZONE}")).json()
        shown = (await client.post(wild["authorizations"][0])).json()
        assert [each["type"] for each in shown["challenges"]] == ["dns-01"], "a wildcard is proven in DNS alone"
        _, url, way, _ = await challenge(client, f"e.{ZONE}", "dns-01")
        await client.post(way["url"], {})
        assert await refused(house, client, url) == "dns"
        _, url, way, _ = await challenge(client, "x.broken.test", "dns-01")
        await client.post(way["url"], {})
        assert await refused(house, client, url) == "dns"


async def test_tls_alpn_01_wants_the_one_certificate(tmp_path, names):
    port = free_port()
    async with validating(tmp_path, names, tls_port=port) as (house, client):
        name = f"f.web.{ZONE}"

        async def tried(**more):
            _, url, way, content = await challenge(client, name, "tls-alpn-01")
            digest = hashlib.sha256(content.encode()).digest()
            named = more.pop("named", [x509.DNSName(name)])
            protocols = more.pop("protocols", ("acme-tls/1",))
            pem = challenge_certificate(named, more.pop("digest", digest), **more)
            with tls_server(pem, protocols, port) as (_, asked):
                await client.post(way["url"], {})
                found = await decided(house, client, url)
            assert set(asked) == {name}
            return (
                found["status"]
                if found["status"] == "valid"
                else found["challenges"][0]["error"]["type"].rpartition(":")[2]
            )

        assert await tried() == "valid"
        assert await tried(digest=bytes(32)) == "incorrectResponse"
        assert await tried(critical=False) == "incorrectResponse"
        assert await tried(with_extension=False) == "incorrectResponse"
        assert await tried(named=[x509.DNSName(name), x509.DNSName("b.example")]) == "incorrectResponse"
        assert await tried(named=[x509.DNSName("b.example")]) == "incorrectResponse"
        assert await tried(protocols=("http/1.1",)) == "tls"


async def test_ip_addresses_are_proven_by_http_and_tls(tmp_path, names, web):
    port = free_port()
    async with validating(tmp_path, names, http_port=web.port, tls_port=port) as (house, client):
        order, url, way, content = await challenge(client, "127.0.0.1", "http-01")
        web.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
        await client.post(way["url"], {})
        assert (await decided(house, client, url))["status"] == "valid"
        done = await client.post(order["finalize"], {"csr": csr_for(["127.0.0.1"])})
        chain = await client.post(done.json()["certificate"])
        san = x509.load_pem_x509_certificate(chain.content).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert san.value.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
        _, url, way, content = await challenge(client, "127.0.0.1", "tls-alpn-01")
        named = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        pem = challenge_certificate(named, hashlib.sha256(content.encode()).digest())
        with tls_server(pem, port=port) as (_, asked):
            await client.post(way["url"], {})
            assert (await decided(house, client, url))["status"] == "valid"
        assert asked == ["1.0.0.127.in-addr.arpa"]
        shown = (await client.post((await client.order("10.1.2.3")).json()["authorizations"][0])).json()
        assert sorted(each["type"] for each in shown["challenges"]) == ["http-01", "tls-alpn-01"]


async def test_private_addresses_are_not_dialled_unless_they_are_allowed(tmp_path, names, web):
    async with validating(tmp_path, names, http_port=web.port, allowed_networks=()) as (house, client):
        for kind in ("http-01", "tls-alpn-01"):
            _, url, way, content = await challenge(client, f"g.web.{ZONE}", kind)
            web.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
            await client.post(way["url"], {})
            assert await refused(house, client, url) == "connection"
        assert web.asked == []


async def test_an_answer_of_dns_that_changes_leads_nowhere_else(tmp_path, names, web):
    # the same port elsewhere: where a name leads that is resolved once more after it was judged
    with Web("127.0.0.2", web.port) as elsewhere:
        async with wavering("127.0.0.1", "127.0.0.2") as dns:
            chosen = {"http_port": web.port, "resolver": dns.resolver, "allowed_networks": ("127.0.0.1/32",)}
            async with validating(tmp_path / "a", names, **chosen) as (house, client):
                _, url, way, content = await challenge(client, "turns.example", "http-01")
                web.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
                await client.post(way["url"], {})
                assert (await decided(house, client, url))["status"] == "valid"
                assert dns.asked == ["turns.example"], "it was resolved once, and that address was dialled"
        async with wavering("127.0.0.2") as dns:
            chosen["resolver"] = dns.resolver
            async with validating(tmp_path / "b", names, **chosen) as (house, client):
                _, url, way, content = await challenge(client, "inside.example", "http-01")
                elsewhere.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
                await client.post(way["url"], {})
                assert await refused(house, client, url) == "connection"
                assert len(dns.asked) == MOST_ATTEMPTS
        assert elsewhere.asked == []


async def test_caa_records_are_kept(tmp_path, names):
    async with validating(tmp_path, names, caa_identities=("ca.example",)) as (house, client):
        mine, proofs = client.kid, []

        async def tried(name, **records):
            for owner, values in records.items():
                names.set(f"{owner.replace('_', '.')}.{ZONE}." if owner != "top" else f"{ZONE}.", "CAA", *values)
            _, url, way, content = await challenge(client, name, "dns-01")
            base = name.removeprefix("*.")
            names.set(f"_acme-challenge.{base}.", "TXT", f'"{encode(hashlib.sha256(content.encode()).digest())}"')
            await client.post(way["url"], {})
            found = await decided(house, client, url)
            proofs.append(url)
            return "valid" if found["status"] == "valid" else found["challenges"][0]["error"]["type"].rpartition(":")[2]

        name = f"h.caa.{ZONE}"
        assert await tried(name) == "valid"
        expires = datetime.fromisoformat((await client.post(proofs[-1])).json()["expires"])
        assert expires <= house.api.clock.now() + timedelta(hours=8), "what CAA records said is not good for longer"
        assert await tried(name, h_caa=['0 issue "ca.example"']) == "valid"
        assert await tried(name, h_caa=['0 issue "other.example"']) == "caa"
        assert await tried(name, h_caa=[], caa=['0 issue ";"']) == "caa", "the nearest records above count"
        assert await tried(f"*.h.caa.{ZONE}", caa=['0 issue ";"', '0 issuewild "ca.example"']) == "valid"
        assert await tried(name, caa=[f'0 issue "ca.example; accounturi={mine}"']) == "valid"
        assert await tried(name, caa=[f'0 issue "ca.example; accounturi={mine}x"']) == "caa"
        assert await tried(name, caa=['0 issue "ca.example; validationmethods=http-01"']) == "caa"
        assert await tried(name, caa=['0 issue "ca.example; validationmethods=http-01,dns-01"']) == "valid"
        assert await tried(name, caa=['128 unheardof "x"', '0 issue "ca.example"']) == "caa"
        names.set(f"caa.{ZONE}.", "CAA")


async def test_a_failure_that_passes_is_tried_again_and_one_that_stays_ends_the_order(tmp_path, names, web):
    async with validating(tmp_path, names, http_port=web.port) as (house, client):
        order, url, way, content = await challenge(client, f"i.web.{ZONE}", "http-01")
        path = f"/.well-known/acme-challenge/{way['token']}"
        await client.post(way["url"], {})
        async with asyncio.timeout(PATIENCE):
            while not web.asked:
                await asyncio.sleep(0.05)
        web.pages[path] = content.encode()
        assert (await decided(house, client, url))["status"] == "valid"
        made = await client.order(f"j.web.{ZONE}")
        url = made.json()["authorizations"][0]
        way = next(each for each in (await client.post(url)).json()["challenges"] if each["type"] == "http-01")
        web.asked.clear()
        await client.post(way["url"], {})
        assert await refused(house, client, url) == "incorrectResponse"
        assert len(web.asked) == MOST_ATTEMPTS
        ended = (await client.post(made.headers["location"])).json()
        assert (ended["status"], ended["error"]["subproblems"][0]["identifier"]["value"]) == (
            "invalid",
            f"j.web.{ZONE}",
        )


class Stands:
    """Looks and never comes back, as a process that is killed does not."""

    def __init__(self) -> None:
        self.looking = asyncio.Event()

    async def prove(self, proof) -> None:
        self.looking.set()
        await asyncio.Event().wait()


async def test_what_a_killed_process_looked_at_is_looked_at_by_another_once_its_lease_is_over(tmp_path, names, web):
    chosen = {"resolver": names.resolver, "allowed_networks": ("127.0.0.0/8",), "http_port": web.port}
    async with open_acme(tmp_path / "data", **chosen) as house:
        change = {"acme_auth_mode": "challenge", "allow_short_lived": False}
        assert (await house.api.call("PUT", "/api/v1/profiles/prof-default", change)).status_code == 200
        ctx, wakeups, stands = house.api.house.ctx, house.api.house.wakeups, Stands()
        client = house.client()
        assert (await client.register()).status_code == 201
        dead = asyncio.create_task(
            Validator(dataclasses.replace(ctx, owner="dead"), wakeups, house.rules, stands).run()
        )
        _, url, way, content = await challenge(client, f"l.web.{ZONE}", "http-01")
        web.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
        await client.post(way["url"], {})
        async with asyncio.timeout(PATIENCE):
            await stands.looking.wait()
        dead.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dead
        async with ctx.database.read() as tx:
            assert not await has_work(tx, ctx.scope, ctx.now()), "its lease is still running"
            assert not await has_work(tx, ctx.scope, ctx.now() + ctx.patience.lease - timedelta(seconds=1))
            assert await has_work(tx, ctx.scope, ctx.now() + ctx.patience.lease)
        other = Validator(ctx, wakeups, house.rules, Prover(house.rules))
        running = asyncio.create_task(other.run())
        assert (await decided(house, client, url))["status"] == "valid"
        other.stop()
        async with asyncio.timeout(PATIENCE):
            await running


async def test_a_look_that_takes_longer_than_a_lease_keeps_it(tmp_path, names):
    # one at a time: it has no hands free to take what it holds once more
    async with open_acme(tmp_path / "data", http01_concurrency=1) as house:
        change = {"acme_auth_mode": "challenge", "allow_short_lived": False}
        assert (await house.api.call("PUT", "/api/v1/profiles/prof-default", change)).status_code == 200
        lease = timedelta(milliseconds=30)
        patience = dataclasses.replace(house.api.house.ctx.patience, lease=lease)
        ctx = dataclasses.replace(house.api.house.ctx, patience=patience)
        stands, client = Stands(), house.client()
        assert (await client.register()).status_code == 201
        validator = Validator(ctx, house.api.house.wakeups, house.rules, stands)
        running = asyncio.create_task(validator.run())
        _, _, way, _ = await challenge(client, f"m.web.{ZONE}", "http-01")
        await client.post(way["url"], {})
        async with asyncio.timeout(PATIENCE):
            await stands.looking.wait()
            # this house's clock stands still unless it is moved: the lease moves with it
            house.api.clock.moment += timedelta(hours=1)
            while True:
                async with ctx.database.read() as tx:
                    if not await has_work(tx, ctx.scope, ctx.now()):
                        break
                await asyncio.sleep(0.01)
        async with ctx.database.read() as tx:
            held = await get(tx, ctx.scope, AcmeChallenge, way["url"].rpartition("/")[2])
        assert (held.attempts, held.lease_owner) == (1, ctx.owner)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_an_authorization_given_up_is_good_for_nothing(tmp_path, names, web):
    async with validating(tmp_path, names, http_port=web.port) as (house, client):
        name = f"k.web.{ZONE}"
        order, url, way, content = await challenge(client, name, "http-01")
        web.pages[f"/.well-known/acme-challenge/{way['token']}"] = content.encode()
        await client.post(way["url"], {})
        assert (await decided(house, client, url))["status"] == "valid"
        assert (await client.post(url, {"status": "deactivated"})).json()["status"] == "deactivated"
        assert problem(await client.post(order["finalize"], {"csr": csr_for([name])})) == "orderNotReady"
        assert decode(way["token"], "token")
