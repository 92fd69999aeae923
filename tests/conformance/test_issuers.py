"""What every issuer must keep, run against each of them; and what only the local one can promise."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from certctl.connectors.base.config import decode_config
from certctl.connectors.base.issuer import (
    DraftsIntent,
    Inspects,
    Issued,
    Issuer,
    LeafRules,
    Order,
    Pending,
    Revocation,
    Revokes,
)
from certctl.connectors.issuers.local import LocalConfig
from certctl.core.errors import ConnectorError, Malformed, Misconfigured, Rejected, TrustError, Unsupported
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.csr import build_csr
from certctl.pki.keys import generate_private_key, private_key_pem, public_key_matches
from conformance.issuers import FACTORIES, local_over
from made_ca import NOW, make_ca

pytestmark = pytest.mark.parametrize("kind", list(FACTORIES))
KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
NAMES = parse_names(["shop.example", "www.shop.example"])


def order(**changes: object) -> Order:
    # The CSR asks for another name: only the approved ones may come out.
    csr_der = build_csr(KEY, "evil.example", parse_names(["evil.example"]))
    made = Order("o-1", "shop.example", NAMES, csr_der, timedelta(days=20), LeafRules(), NOW)
    return msgspec.structs.replace(made, **changes)


async def obtain(issuer: Issuer, wanted: Order) -> tuple[Order, Issued]:
    """Draft (where the issuer does), submit, collect until it is there."""
    if isinstance(issuer, DraftsIntent):
        wanted = msgspec.structs.replace(wanted, intent=await issuer.draft(wanted))
    answer = await issuer.submit(wanted)
    for _ in range(20):
        if isinstance(answer, Issued):
            return wanted, answer
        answer = await issuer.collect(answer.reference, wanted)
    raise AssertionError("the issuer never answered")


async def test_it_issues_what_was_approved(kind: str) -> None:
    _, issued = await obtain(await FACTORIES[kind](), order())
    facts = read_certificate(issued.leaf_der)
    assert set(facts.names) == set(NAMES)
    assert "evil" not in facts.subject
    public_key_matches(private_key_pem(KEY), issued.leaf_der)
    assert facts.not_after - NOW <= timedelta(days=20)
    assert not facts.is_ca


async def test_its_chain_leads_to_its_root_which_is_not_in_it(kind: str) -> None:
    _, issued = await obtain(await FACTORIES[kind](), order())
    assert issued.root_der is not None
    assert issued.root_der not in issued.chain_der
    verify_chain(issued.leaf_der, issued.chain_der, issued.root_der, NOW)


async def test_submitting_the_same_order_again_is_one_certificate(kind: str) -> None:
    issuer = await FACTORIES[kind]()
    wanted, first = await obtain(issuer, order())
    again = await issuer.submit(wanted)
    while isinstance(again, Pending):
        again = await issuer.collect(again.reference, wanted)
    assert again == first


async def test_a_csr_with_a_wrong_signature_gets_nothing(kind: str) -> None:
    issuer = await FACTORIES[kind]()
    good = order().csr_der
    with pytest.raises((ConnectorError, TrustError)):
        await obtain(issuer, order(csr_der=good[:-1] + bytes([good[-1] ^ 1])))


async def test_revoking_twice_is_once(kind: str) -> None:
    issuer = await FACTORIES[kind]()
    if not isinstance(issuer, Revokes):
        pytest.skip(f"{kind} cannot revoke")
    wanted, issued = await obtain(issuer, order())
    facts = read_certificate(issued.leaf_der)
    ca = wanted.intent.ca_certificate_id if wanted.intent else ""
    revocation = Revocation(facts.serial_number, ca, issued.leaf_der, "keyCompromise", NOW)
    await issuer.revoke(revocation)
    await issuer.revoke(revocation)


async def test_it_says_what_it_reaches(kind: str) -> None:
    issuer = await FACTORIES[kind]()
    if not isinstance(issuer, Inspects):
        pytest.skip(f"{kind} cannot be inspected")
    assert await issuer.inspect()


class TestLocal:
    """The local CA draws its certificates up before it signs."""

    async def test_a_crash_between_intent_and_answer_changes_nothing(self, kind: str) -> None:
        made = await make_ca()
        before = local_over(made)
        wanted = order()
        wanted = msgspec.structs.replace(wanted, intent=await before.draft(wanted))
        first, again = await before.submit(wanted), await local_over(made).submit(wanted)
        assert isinstance(first, Issued) and first == again
        assert wanted.intent is not None
        assert read_certificate(first.leaf_der).serial_number == wanted.intent.serial_number

    async def test_nothing_is_signed_without_an_intent_or_under_another_generation(self, kind: str) -> None:
        made = await make_ca()
        issuer = local_over(made)
        with pytest.raises(Misconfigured, match="no stored intent"):
            await issuer.submit(order())
        intent = await issuer.draft(order())
        made.issuing = msgspec.structs.replace(made.issuing, ca_certificate_id="ca-other")

        async def cas(_: str | None) -> object:
            return made.issuing

        issuer._cas = cas
        with pytest.raises(TrustError, match="another CA generation"):
            await issuer.submit(order(intent=intent))

    async def test_an_intent_that_is_not_the_orders_is_refused(self, kind: str) -> None:
        issuer = local_over(await make_ca())
        intent = await issuer.draft(order())
        other_key = generate_private_key(KeyAlgorithm.ECDSA_P256)
        for changes in (
            {"names": NAMES[:1]},
            {"csr_der": build_csr(other_key, "", NAMES)},
            {"rules": LeafRules(must_staple=True)},
            {"validity": timedelta(days=1)},
        ):
            with pytest.raises(TrustError, match="lint refused"):
                await issuer.submit(order(intent=intent, **changes))
        for wrong in ({"serial_number": 5}, {"not_after": NOW}):
            with pytest.raises(TrustError, match="does not tell"):
                await issuer.submit(order(intent=msgspec.structs.replace(intent, **wrong)))

    async def test_there_is_nothing_to_collect(self, kind: str) -> None:
        with pytest.raises(Unsupported):
            await local_over(await make_ca()).collect("x", order())

    async def test_inspecting_finds_a_key_that_is_not_the_cas(self, kind: str) -> None:
        made = await make_ca()
        made.issuing = msgspec.structs.replace(made.issuing, key_ref="k-root")
        with pytest.raises(TrustError, match="does not belong"):
            await local_over(made).inspect()

    async def test_a_refused_csr_is_a_rejection(self, kind: str) -> None:
        with pytest.raises(Rejected, match="csr|CSR"):
            await local_over(await make_ca()).draft(order(csr_der=b"nonsense"))

    def test_its_configuration_is_strict(self, kind: str) -> None:
        assert decode_config(LocalConfig, {"validity_days": 30}).validity_days == 30
        with pytest.raises(Malformed, match="did you mean validity_days"):
            decode_config(LocalConfig, {"validity_day": 30})
        with pytest.raises(Malformed):
            decode_config(LocalConfig, {"validity_days": 0})
