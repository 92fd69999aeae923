"""Certificates under one registered domain, counted as public CAs do: by the Public Suffix List, over all issuers there."""

from __future__ import annotations

import datetime as dt
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.connectors.base.issuer import LeafRules, Order
from certctl.control import ca_asks
from certctl.control.registered_domains import domains_of
from certctl.core import ca_limits
from certctl.core.ca_limits import CaLimits, Limit, Per
from certctl.core.errors import Temporary
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.keys import generate_private_key
from integration.api_house import open_api

DIRECTORY = "https://limits.test/dir"


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("www.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("somebody.github.io", "somebody.github.io"),
        ("co.uk", "co.uk"),
        ("host.corp.internal", "corp.internal"),
        ("www.食狮.公司.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::7", "2001:db8::/64"),
    ],
)
def test_the_registered_domain_is_what_the_list_says(name, domain):
    assert domains_of(parse_names([name])) == {domain}


def test_what_lets_encrypt_publishes_is_kept_to():
    known = ca_limits.limits_of("https://acme-v02.api.letsencrypt.org/directory")
    assert Limit(Per.DOMAIN, 50, timedelta(days=7)) in known.limits


def renewed(*names: str) -> bytes:
    """A certificate for these names, for an order to take the place of."""
    key, now = generate_private_key(KeyAlgorithm.ECDSA_P256), dt.datetime.now(dt.UTC)
    subject = x509.Name([])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=9))
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    return made.add_extension(san, critical=True).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def test_a_domain_whose_budget_is_spent_waits_and_renewals_do_not(tmp_path, database_url, monkeypatch):
    limits = (Limit(Per.DOMAIN, 3, timedelta(days=7)),)
    monkeypatch.setitem(
        ca_limits.BY_HOST, "limits.test", CaLimits(source="https://limits.test", as_of="2026-01-01", limits=limits)
    )
    async with open_api(tmp_path, "" if database_url.startswith("sqlite") else database_url) as api:
        ctx, made = api.house.ctx, 0

        async def ask(*names: str, issuer_id: str = "iss-a", replaces: bytes | None = None, **more: bool) -> str:
            nonlocal made
            made += 1
            order = Order(
                *(f"o-{made}", names[0], parse_names(list(names)), b"", timedelta(days=9), LeafRules(), ctx.now()),
                replaces_der=replaces,
            )
            await ca_asks.begin(ctx, issuer_id, DIRECTORY, order, exempt=more.get("exempt", False))
            return order.order_id

        first = await ask("a.example.co.uk")
        second = await ask("b.example.co.uk", "c.example.co.uk", issuer_id="iss-b")
        third = await ask("*.example.co.uk", "other.test")
        assert {first, second, third} == {"o-1", "o-2", "o-3"}
        with pytest.raises(
            Temporary, match=r"3 new certificates under one registered domain in 7 days \(example.co.uk\)"
        ):
            await ask("d.example.co.uk")
        with pytest.raises(Temporary, match="example.co.uk"):
            await ask("free.test", "e.example.co.uk")
        await ask("www.another.co.uk")
        # the very same names as before do not count; others do; what names its predecessor to the CA is exempt
        await ask("a.example.co.uk", replaces=renewed("a.example.co.uk"))
        with pytest.raises(Temporary):
            await ask("a.example.co.uk", "new.example.co.uk", replaces=renewed("a.example.co.uk"))
        await ask("a.example.co.uk", "new.example.co.uk", exempt=True)
        # what the CA refused at once was no certificate; and time passes
        await ca_asks.end(ctx, "iss-b", second, "declined", "no")
        await ask("f.example.co.uk")
        with pytest.raises(Temporary):
            await ask("g.example.co.uk")
        api.clock.moment += timedelta(days=8)
        await ask("g.example.co.uk")
        api.clock.moment += timedelta(days=61)
        assert await ca_asks.sweep(ctx) >= 0
        async with ctx.database.read() as tx:
            from certctl.store.schema import ca_ask_domains

            assert (await tx.execute(ca_ask_domains.select())).all() == []
