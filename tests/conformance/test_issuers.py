"""What every issuer must keep, run against each of them; and what only the local one can promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.csr import build_csr
from certctl.pki.keys import generate_private_key, private_key_pem, public_key_matches
from conformance.issuers import KEY, KINDS, LIFE, NAMES, Subject, local_over, order
from made_ca import NOW, make_ca

# pebble is a process of its own, and shared by the tests of one worker
pytestmark = [pytest.mark.xdist_group("issuers"), pytest.mark.timeout(120)]
PATIENCE_SECONDS = 60


@pytest.fixture(params=list(KINDS))
async def subject(request) -> AsyncIterator[Subject]:
    async with KINDS[request.param]() as made:
        yield made


async def obtain(issuer: Issuer, wanted: Order) -> tuple[Order, Issued]:
    """Draft (where the issuer does), submit, collect until it is there."""
    if isinstance(issuer, DraftsIntent):
        wanted = msgspec.structs.replace(wanted, intent=await issuer.draft(wanted))
    return wanted, await collected(issuer, wanted, await issuer.submit(wanted))


async def collected(issuer: Issuer, wanted: Order, answer: Issued | Pending) -> Issued:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while isinstance(answer, Pending):
            await asyncio.sleep(min(answer.retry_after.total_seconds(), 0.05))
            answer = await issuer.collect(answer.reference, wanted)
    return answer


async def test_it_issues_what_was_approved(subject: Subject) -> None:
    _, issued = await obtain(subject.issuer, subject.order)
    facts = read_certificate(issued.leaf_der)
    assert set(facts.names) == set(NAMES)
    assert "evil" not in facts.subject
    public_key_matches(private_key_pem(KEY), issued.leaf_der)
    assert facts.not_after - subject.order.now <= LIFE
    assert not facts.is_ca


async def test_its_chain_leads_to_its_root_which_is_not_in_it(subject: Subject) -> None:
    _, issued = await obtain(subject.issuer, subject.order)
    root = subject.root() if subject.root is not None else issued.root_der
    assert root is not None
    assert root not in issued.chain_der
    verify_chain(issued.leaf_der, issued.chain_der, root, subject.order.now + timedelta(minutes=1))


async def test_submitting_the_same_order_again_is_one_certificate(subject: Subject) -> None:
    wanted, first = await obtain(subject.issuer, subject.order)
    # the step that asks is begun again after a crash, and says so
    again = msgspec.structs.replace(wanted, attempt=2)
    assert await collected(subject.issuer, again, await subject.issuer.submit(again)) == first


async def test_a_csr_with_a_wrong_signature_gets_nothing(subject: Subject) -> None:
    good = subject.order.csr_der
    bad = msgspec.structs.replace(subject.order, csr_der=good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises((ConnectorError, TrustError)):
        await obtain(subject.issuer, bad)


async def test_revoking_twice_is_once(subject: Subject) -> None:
    issuer = subject.issuer
    assert isinstance(issuer, Revokes)
    wanted, issued = await obtain(issuer, subject.order)
    facts = read_certificate(issued.leaf_der)
    ca = wanted.intent.ca_certificate_id if wanted.intent else ""
    revocation = Revocation(facts.serial_number, ca, issued.leaf_der, "keyCompromise", wanted.now)
    await issuer.revoke(revocation)
    await issuer.revoke(revocation)


async def test_it_says_what_it_reaches(subject: Subject) -> None:
    assert isinstance(subject.issuer, Inspects)
    assert await subject.issuer.inspect()


class TestLocal:
    """The local CA draws its certificates up before it signs."""

    async def test_a_crash_between_intent_and_answer_changes_nothing(self) -> None:
        made = await make_ca()
        before = local_over(made)
        wanted = order()
        wanted = msgspec.structs.replace(wanted, intent=await before.draft(wanted))
        first, again = await before.submit(wanted), await local_over(made).submit(wanted)
        assert isinstance(first, Issued) and first == again
        assert wanted.intent is not None
        assert read_certificate(first.leaf_der).serial_number == wanted.intent.serial_number

    async def test_nothing_is_signed_without_an_intent_or_under_another_generation(self) -> None:
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

    async def test_an_intent_that_is_not_the_orders_is_refused(self) -> None:
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

    async def test_there_is_nothing_to_collect(self) -> None:
        with pytest.raises(Unsupported):
            await local_over(await make_ca()).collect("x", order())

    async def test_inspecting_finds_a_key_that_is_not_the_cas(self) -> None:
        made = await make_ca()
        made.issuing = msgspec.structs.replace(made.issuing, key_ref="k-root")
        with pytest.raises(TrustError, match="does not belong"):
            await local_over(made).inspect()

    async def test_a_refused_csr_is_a_rejection(self) -> None:
        with pytest.raises(Rejected, match="csr|CSR"):
            await local_over(await make_ca()).draft(order(csr_der=b"nonsense"))

    def test_its_configuration_is_strict(self) -> None:
        assert decode_config(LocalConfig, {"validity_days": 30}).validity_days == 30
        with pytest.raises(Malformed, match="did you mean validity_days"):
            decode_config(LocalConfig, {"validity_day": 30})
        with pytest.raises(Malformed):
            decode_config(LocalConfig, {"validity_days": 0})
