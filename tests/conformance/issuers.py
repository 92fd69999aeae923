"""The issuers under conformance: one factory each. Adding an issuer is adding a line to KINDS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from certctl.authority.signer import IssuingCA
from certctl.connectors.base.issuer import CaAccount, Issuer, LeafRules, Order
from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import KeptClients
from certctl.connectors.issuers.acme import AcmeConfig, AcmeIssuer
from certctl.connectors.issuers.local import LocalIssuer
from certctl.core.errors import NotFound
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr
from certctl.pki.keys import generate_private_key, private_key_pem
from certctl.pki.pem import read_certificates
from made_ca import ADDRESSES, NOW, MadeCA, make_ca
from peers.pebble import pebble

KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
NAMES = parse_names(["shop.example", "www.shop.example"])
LIFE = timedelta(days=20)


@dataclass
class Subject:
    """One issuer with the order that fits its kind; `root` tells the root of its chains where the answer does not."""

    issuer: Issuer
    order: Order
    root: Callable[[], bytes] | None = None


def order(now: datetime = NOW, **changes: object) -> Order:
    """The CSR asks for another name: only the approved ones may come out."""
    csr_der = build_csr(KEY, "evil.example", parse_names(["evil.example"]))
    return msgspec.structs.replace(Order("o-1", "shop.example", NAMES, csr_der, LIFE, LeafRules(), now), **changes)


def local_over(made: MadeCA) -> LocalIssuer:
    """The local issuer of an in-memory CA, its signer as fresh as a new process has it."""

    async def cas(ca_certificate_id: str | None) -> IssuingCA:
        if ca_certificate_id not in {None, made.issuing.ca_certificate_id}:
            raise NotFound(f"no CA {ca_certificate_id}")
        return made.issuing

    async def root_of(ca: IssuingCA) -> bytes:
        return made.root.certificate_der

    return LocalIssuer(cas, root_of, made.new_signer(), ADDRESSES)


@contextlib.asynccontextmanager
async def local() -> AsyncIterator[Subject]:
    yield Subject(local_over(await make_ca()), order())


@dataclass
class Book:
    """An account book in memory, for one CA."""

    account: CaAccount = field(
        default_factory=lambda: CaAccount(private_key_pem(generate_private_key(KeyAlgorithm.ECDSA_P256)), fresh=True)
    )
    orders: dict[str, str] = field(default_factory=dict)
    asking: set[str] = field(default_factory=set)
    standing: dict[str, Sequence[Proof]] = field(default_factory=dict)

    async def open(self, directory_url: str) -> CaAccount:
        return self.account

    async def registered(self, directory_url: str, url: str) -> None:
        self.account = msgspec.structs.replace(self.account, url=url, fresh=False)

    async def begin_ask(self, directory_url: str, order: Order, *, exempt: bool) -> None:
        self.asking.add(order.order_id)

    async def is_asking(self, order_id: str) -> bool:
        return order_id in self.asking

    async def end_ask(self, order_id: str, state: str, detail: str = "") -> None:
        self.asking.discard(order_id)

    async def claim_order(self, url: str, order_id: str) -> bool:
        return self.orders.setdefault(order_id, url) == url

    async def order_of(self, order_id: str) -> str:
        return self.orders.get(order_id, "")

    async def put_proofs(self, order_id: str, proofs: Sequence[Proof]) -> None:
        self.standing[order_id] = proofs

    async def proofs_of(self, order_id: str) -> Sequence[Proof]:
        return self.standing.get(order_id, ())

    async def drop_proofs(self, order_id: str) -> None:
        self.standing.pop(order_id, None)

    async def begin_key_change(self, directory_url: str) -> CaAccount:
        pem = private_key_pem(generate_private_key(KeyAlgorithm.ECDSA_P256))
        self.account = msgspec.structs.replace(self.account, next_key_pem=pem)
        return self.account

    async def end_key_change(self, directory_url: str, *, changed: bool) -> None:
        key = self.account.next_key_pem if changed else self.account.key_pem
        self.account = msgspec.structs.replace(self.account, key_pem=key, next_key_pem=b"")


class Believed:
    """Proves nothing, to a CA that looks at nothing."""

    challenge_type = "http-01"

    async def present(self, proof: Proof) -> None:
        return

    async def is_visible(self, proof: Proof) -> bool:
        return True

    async def cleanup(self, proof: Proof) -> None:
        return


@contextlib.asynccontextmanager
async def acme() -> AsyncIterator[Subject]:
    """Over a real pebble that validates nothing; such a CA refuses a CSR for other names, so the order's is its own."""
    lives = {"default": {"description": "19 days", "validityPeriod": 19 * 86_400}}
    with pebble("127.0.0.1:1", profiles=lives, PEBBLE_VA_ALWAYS_VALID="1") as ca:
        clients = KeptClients()
        config = AcmeConfig(
            directory_url=ca.directory_url, ca_certificates_pem=ca.trust_pem, terms_of_service_agreed=True
        )
        policy = DialPolicy("issuers", allow_loopback=True)
        issuer = AcmeIssuer(config, Book(), Believed(), None, policy, clients)
        fits = order(datetime.now(UTC), csr_der=build_csr(KEY, "shop.example", NAMES))
        try:
            yield Subject(issuer, fits, lambda: read_certificates(ca.ask("/roots/0").text)[0])
        finally:
            await clients.aclose()


KINDS: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Subject]]] = {"local": local, "acme": acme}
