"""Many CSRs by one call: each item by itself, in order, whoever asks and whatever is wrong with the others."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.client.models.issuances import BulkIssueBody
from certctl.core.errors import Malformed
from certctl.core.names import parse_names
from certctl.doors.body import decode_body
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key, spki_der
from certctl.pki.pem import read_certificates
from integration.api_house import open_api

ISSUE = "/api/v1/certificates/bulk-issue"
KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def item(name: str, **more) -> dict:
    return {"common_name": name, "csr_pem": csr_pem(build_csr(KEY, name, parse_names([name])))} | more


async def issue(api, *items, status=200, **more) -> dict:
    answer = await api.call("POST", ISSUE, body={"certificates": list(items)}, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_each_item_is_issued_or_told_what_it_would_have_been_told_alone(api):
    wrong = item("wrong.example") | {"csr_pem": item("other.example")["csr_pem"]}
    told = await issue(
        api,
        *(item(f"n{number}.example") for number in range(60)),
        item("n0.example"),
        item("x.example", csr_pem="no CSR"),
        item("y.example", owner_id="o-nobody", team_id="t-nobody"),
        item("z.example", validity_seconds=50 * 365 * 86400),
        wrong,
    )
    assert (told["total"], told["total_issued"], told["total_under_way"], told["total_failed"]) == (65, 60, 0, 5)
    assert [each["index"] for each in told["results"]] == list(range(65))
    (chain,) = told["chains"].values()
    for number, each in enumerate(told["results"][:60]):
        (leaf_der,) = read_certificates(each["cert_pem"])
        leaf = read_certificate(leaf_der)
        assert (leaf.common_name, leaf.spki_der) == (f"n{number}.example", spki_der(KEY.public_key()))
        above = read_certificates(chain)
        verify_chain(leaf_der, above[:-1], above[-1], api.clock.now())
    one = told["results"][7]
    shown = (await api.call("GET", f"/api/v1/certificates/{one['certificate_id']}")).json()
    assert (shown["status"], shown["common_name"]) == ("Active", "n7.example")
    doubled, malformed, unknown, long, unlike = told["results"][60:]
    alone = {
        "doubled": await api.call("POST", "/api/v1/certificates", body=item("n0.example")),
        "malformed": await api.call("POST", "/api/v1/certificates", body=item("x.example", csr_pem="no CSR")),
        "unknown": await api.call(
            "POST", "/api/v1/certificates", body=item("y.example", owner_id="o-nobody", team_id="t-nobody")
        ),
        "long": await api.call(
            "POST", "/api/v1/certificates", body=item("z.example", validity_seconds=50 * 365 * 86400)
        ),
    }
    for each, by_itself in zip((doubled, malformed, unknown, long), alone.values(), strict=True):
        problem = by_itself.json()
        assert each["status"] == "failed"
        assert each["code"] == problem["code"]
        assert each.get("violations", []) == problem.get("violations", [])
        assert "certificate_id" not in each
    assert len(unknown["violations"]) == 2
    # its names are not those of its CSR: the certificate stands, and its job says why it failed
    assert (unlike["status"], unlike["code"]) == ("failed", "policy_denied")
    job = (await api.call("GET", f"/api/v1/jobs/{unlike['job_id']}")).json()
    assert (job["status"], job["certificate_id"]) == ("Failed", unlike["certificate_id"])


async def test_one_call_is_answered_once_by_its_key(api):
    body = [item(f"k{number}.example") for number in range(3)]
    first = await issue(api, *body, headers={"Idempotency-Key": "one"})
    again = await issue(api, *body, headers={"Idempotency-Key": "one"})
    assert again == first
    async with api.house.ctx.database.read() as tx:
        assert await tx.scalar(sa.text("SELECT count(*) FROM certificate_versions WHERE status = 'current'")) >= 3
    assert (await issue(api, *body))["total_failed"] == 3


async def test_callers_with_keys_of_their_own_at_the_same_time_each_act_once(api):
    """Each key is marked in the commit that writes what it asked for, with that of others."""
    bodies = [item(f"c{number}.example") for number in range(8)]
    calls = [
        api.call(
            "POST",
            "/api/v1/certificates",
            body=bodies[number % 8],
            headers={"Idempotency-Key": f"c{number % 8}"},
        )
        for number in range(16)
    ]
    answers = await asyncio.gather(*calls)
    by_name: dict[int, list] = {}
    for number, answer in enumerate(answers):
        by_name.setdefault(number % 8, []).append(answer)
    for pair in by_name.values():
        made = [answer.json()["id"] for answer in pair if answer.status_code == 201]
        assert len(set(made)) == 1
        assert {answer.status_code for answer in pair} <= {201, 409}
    async with api.house.ctx.database.read() as tx:
        rows = (await tx.execute(sa.text("SELECT subject_id, phase FROM idempotency_keys ORDER BY subject_id"))).all()
    assert {phase for _, phase in rows} == {"answered"}
    assert {subject for subject, _ in rows} == {answer.json()["id"] for answer in answers if answer.status_code == 201}


async def test_what_a_caller_may_not_see_fails_its_item_alone(api):
    """An item that names another team's place is refused like one that names nothing there is."""
    mine, other = [(await api.made("/api/v1/teams", {"name": name}))["id"] for name in ("mine", "theirs")]
    key = await api.key("r-operator", teams=[mine])
    told = await issue(
        api,
        item("mine.example", team_id=mine),
        item("theirs.example", team_id=other),
        item("nobodys.example", team_id="t-nobody"),
        item("none.example"),
        key=key,
    )
    assert [each["status"] for each in told["results"]] == ["issued", "failed", "failed", "failed"]
    theirs, nobodys = ({name: each[name] for name in each if name != "index"} for each in told["results"][1:3])
    assert str(theirs).replace(other, "t-nobody") == str(nobodys)
    refused = await api.call("POST", ISSUE, body={"certificates": [item("r.example")]}, key=await api.key("r-viewer"))
    assert refused.status_code == 403


async def test_too_many_and_too_large_are_refused_whole(api):
    one = item("many.example")
    for body in (
        [],
        [one] * 501,
        [one | {"csr_pem": "x" * 70_000}],
        [one | {"csr_pem": ""}],
        [{"common_name": "a"}],
        [one | {"target_ids": []}],
    ):
        answer = await api.call("POST", ISSUE, body={"certificates": body})
        assert answer.status_code in {400, 413}, answer.text
    assert (await api.call("GET", "/api/v1/certificates?q=many.example")).json()["data"] == []


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=16), inner, max_size=4),
    max_leaves=12,
)
_NEARLY = st.fixed_dictionaries(
    {"common_name": _ANY, "csr_pem": _ANY}, optional={"sans": _ANY, "tags": _ANY, "validity_seconds": _ANY, "id": _ANY}
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({"certificates": st.lists(_NEARLY, max_size=3) | _ANY}))
def test_whatever_the_body_is_it_is_read_or_malformed(body):
    import msgspec

    try:
        read = decode_body(msgspec.json.encode(body), "application/json", BulkIssueBody)
    except Malformed:
        return
    assert 1 <= len(read.certificates) <= 500
