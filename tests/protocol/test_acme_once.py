"""Exactly once: however many finalize one order, wherever, whoever dies: one certificate, or the order as it was."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import josepy
import pytest
from acme import client, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certctl.core.names import parse_names
from certctl.pki.csr import build_csr, csr_pem
from certctl.wire.jws import decode
from peers.balancer import balancer
from peers.bind import ZONE, bind
from peers.pebble import pebble
from peers.replicas import Replica, Replicas, replicas
from protocol.acme_house import PROBLEM, Client, csr_for, open_acme, problem

pytestmark = pytest.mark.xdist_group("acme-once")
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


@pytest.fixture(scope="module")
def two_replicas(postgres_server, tmp_path_factory) -> Iterator[tuple[Replicas, Replica, Replica]]:
    environ = {
        "CERTCTL_ACME_SERVER_ENABLED": "true",
        "CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS": "0",
        "CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR": str(ORDERS + 1),
        "CERTCTL_STEP_LEASE": "2s",
        # everybody lives at one address here, and a fast machine calls more often than it may
        "CERTCTL_RATE_LIMIT_ENABLED": "false",
        "CERTCTL_ISSUERS_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    with replicas(tmp_path_factory.mktemp("once"), postgres_server) as row:
        yield row, row.add(**environ), row.add(**environ)


@pytest.fixture
def pair(two_replicas) -> tuple[Replicas, Replica, Replica]:
    """Both alive, whichever of them died before."""
    row, *both = two_replicas
    for replica in both:
        if replica.process.poll() is not None:
            replica.start()
    return row, *both


@contextlib.asynccontextmanager
async def speaking(replica: Replica, known: Client | None = None):
    """A client of one replica; an account that another one made is known here too."""
    async with speaking_at(replica, f"https://localhost:{replica.port}/acme/profile/prof-default", known) as client:
        yield client


@contextlib.asynccontextmanager
async def speaking_at(replica: Replica, base: str, known: Client | None = None):
    """The same at another address, which this replica's CA vouches for."""
    context = ssl.create_default_context(cafile=str(replica.directory / "data" / "ca.pem"))
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
async def test_replicas_die_while_they_finalize_and_nothing_is_issued_twice_or_lost(pair):
    both, one, two = pair
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
    certificates = "FROM managed_certificates c{} WHERE c.source = 'ACME' AND c.issuer_id = 'iss-local'"
    versions = certificates.format(" JOIN certificate_versions v ON v.certificate_id = c.id")
    assert both.count(versions) == both.count(certificates.format("")) == ORDERS + 1
    assert both.count("FROM acme_orders WHERE profile_id = 'prof-default' AND status = 'valid'") == ORDERS + 1


async def _before(one: Replica, second: Client) -> None:
    """It dies as it commits: what was not committed did not happen, and the order is as it was."""
    async with speaking(one, second) as first:
        order = (await first.order("before.example")).json()
        one.arm_file.write_text("kill commit.together.intent.before\n")
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
    deaths = ("commit.together.intent.after", "commit.together.record.before")
    for point, pair in zip(deaths, pairs, strict=False):
        one.arm_file.write_text(f"kill {point}\n")
        # what is to die is first alone with an order, so that it is it that commits one; where that takes longer than a
        # finalize waits, it has said `processing` before it dies
        assert await finalize(first, *pair) in {0, 200}
        one.process.wait(60)
        one.start()
    said = await asyncio.gather(*(finalize(client, *pair) for pair in pairs for client in (first, second)))
    assert said.count(200) == ORDERS - len(deaths)
    for name, url in pairs:
        found = await ended(second, url.removesuffix("/finalize"))
        assert found["status"] == "valid", (name, found)
        assert (await second.post(found["certificate"])).status_code == 200


FRONT = "prof-front"


def by_the_library(directory_url: str, kid: str, secret: str, name: str) -> bytes:
    """A certificate's chain (PEM), as certbot's own library gets it."""
    account = josepy.JWKEC(key=josepy.ComparableECKey(ec.generate_private_key(ec.SECP256R1())))
    net = client.ClientNetwork(account, alg=josepy.ES256, user_agent="test")
    directory = client.ClientV2.get_directory(directory_url, net)
    library = client.ClientV2(directory, net)
    binding = messages.ExternalAccountBinding.from_data(account.public_key(), kid, secret, directory)
    library.new_account(messages.NewRegistration.from_data(external_account_binding=binding))
    key = ec.generate_private_key(ec.SECP256R1())
    order = library.new_order(csr_pem(build_csr(key, name, parse_names([name]))).encode())
    deadline = datetime.now() + timedelta(seconds=PATIENCE)  # noqa: DTZ005 - the library wants no zone
    return library.finalize_order(library.poll_authorizations(order, deadline), deadline).fullchain_pem.encode()


@pytest.mark.real
@pytest.mark.timeout(600)
async def test_a_foreign_ca_behind_a_profile_proves_names_at_any_replica_and_signs_once(pair, monkeypatch):
    """pebble behind `/acme/profile/...`: slow ones wait, refused ones say why, a replica that dies in between costs nothing.

    Clients and pebble know one address, HAProxy's: whichever replica is asked knows the answer of http-01.
    """
    row, one, two = pair
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(one.directory / "data" / "ca.pem"))
    with (
        bind() as names,
        balancer((one.pki_port, two.pki_port), (one.port, two.port)) as front,
        pebble(names.resolver, http_port=front.http_port) as ca,
    ):
        issuer = {"id": "iss-front", "name": "front", "type": "ACME", "config": ca.config()}
        one.did("POST", "/api/v1/issuers", issuer, row.key)
        profile = {"id": FRONT, "name": "front", "acme_auth_mode": "trust_authenticated", "acme_issuer_id": "iss-front"}
        one.did("POST", "/api/v1/profiles", profile, row.key)
        wish = {"name": "front", "profile_id": FRONT, "reusable": True}
        made = one.did("POST", "/api/v1/acme/external-account-keys", wish, row.key)
        base = f"https://localhost:{front.tls_port}/acme/profile/{FRONT}"

        site = f"library.web.{ZONE}"
        pem = await asyncio.to_thread(by_the_library, f"{base}/directory", made["id"], made["hmac_key"], site)
        assert "Pebble" in x509.load_pem_x509_certificates(pem)[0].issuer.rfc4514_string()
        assert min(front.answered().values()) > 0, "pebble looks three times: each replica was asked and knew"

        async with speaking_at(one, base) as slow:
            assert (await slow.register((made["id"], decode(made["hmac_key"], "key")))).status_code == 201
            url, waiting = await finalized(slow, f"slow.web.{ZONE}")
            assert (waiting.status_code, waiting.json()["status"]) == (200, "processing")
            assert int(waiting.headers["retry-after"]) > 0
            assert (await ended(slow, url))["status"] == "valid"
            # the CA will not have it, in its own words; and one that nobody could prove is not even asked for
            names.set(f"blocked.{ZONE}.", "A", "127.0.0.1")
            for name, words in ((f"blocked.{ZONE}", "rejectedIdentifier"), (f"nowhere.{ZONE}", "address")):
                url, _ = await finalized(slow, name)
                refused = await ended(slow, url)
                assert (refused["status"], refused["error"]["type"]) == ("invalid", f"{PROBLEM}rejectedIdentifier")
                assert words in refused["error"]["detail"], refused

            # the CA has been told to sign, and who told it is no more
            two.kill()
            one.arm_file.write_text("kill acme.finalized\n")
            order = (await slow.order(f"dies.web.{ZONE}")).json()
            with contextlib.suppress(httpx.HTTPError):
                await slow.post(order["finalize"], {"csr": csr_for([f"dies.web.{ZONE}"])})
            one.process.wait(PATIENCE)
            two.start()
        async with speaking_at(two, base, slow) as client_again:
            url = order["finalize"].removesuffix("/finalize")
            done = await ended(client_again, url)
            assert done["status"] == "valid", done
            assert (await client_again.post(done["certificate"])).status_code == 200
        assert ca.count("Issued certificate serial") == 3, "one certificate an order"
        assert row.count(f"FROM acme_orders WHERE profile_id = '{FRONT}' AND status = 'valid'") == 3
        versions = "FROM managed_certificates c JOIN certificate_versions v ON v.certificate_id = c.id"
        assert row.count(f"{versions} WHERE c.issuer_id = 'iss-front'") == 3
        assert two.did("GET", "/api/v1/issuers/iss-front/account", key=row.key)["lost_orders"] == []


async def finalized(speaker: Client, name: str) -> tuple[str, httpx.Response]:
    """An order's address, and what its finalize answers."""
    order = (await speaker.order(name)).json()
    answer = await speaker.post(order["finalize"], {"csr": csr_for([name])})
    return order["finalize"].removesuffix("/finalize"), answer
