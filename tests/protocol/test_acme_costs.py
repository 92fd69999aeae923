"""What an ACME request asks the database: all that its question is about, in the statement that spends its nonce."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from unittest import mock

import msgspec
import pytest
import sqlalchemy as sa

from certctl.core.acme import AcmeAccount, AcmeAuthorization, AcmeOrder, ExternalKey
from certctl.core.catalogue import Profile
from certctl.core.errors import Conflict
from certctl.store import acme, acme_entering, catalogue
from certctl.store.acme_entering import Subject
from protocol.acme_house import AcmeHouse, Client, csr_for, open_acme, problem

USUAL = ("iss-local", "rp-default")
RULE = {
    "name": "only-ours",
    "type": "AllowedDomains",
    "config": {"allowed_domains": ["*.example"]},
    "severity": "Error",
}


@pytest.fixture
async def house(tmp_path, database_url, request):
    if database_url.startswith("postgres"):
        # wherever the database is
        name = database_url.rpartition("/")[2]
        request.getfixturevalue("postgres_server").sql(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")
    async with open_acme(tmp_path / "data", database_url, orders_per_hour=0) as opened:
        yield opened


@contextlib.contextmanager
def statements(house: AcmeHouse) -> Iterator[list[str]]:
    """Each statement that is asked within the block, and each COMMIT."""
    said: list[str] = []
    engine = house.api.house.database.engine.sync_engine

    def note(_connection, _cursor, statement, *_more):
        said.append(statement)

    def ended(_connection):
        said.append("COMMIT")

    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "commit", ended)
    try:
        yield said
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
        sa.event.remove(engine, "commit", ended)


async def asked_about(client: Client) -> tuple[str, str, str]:
    """An order, its authorization and its version, each by its id."""
    done, _ = await client.issued("shop.example")
    order, proof, version = (
        url.rpartition("/")[2] for url in (done["url"], *done["authorizations"], done["certificate"])
    )
    return order, proof, version


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_each_request_of_a_flow_is_one_statement_and_one_more_if_it_writes(house):
    client = await house.known()
    await client.issued("warm.example")
    await client.fresh()
    with statements(house) as said:
        assert (await house.http.head(f"{client.base}/new-nonce")).status_code == 200
        assert said == []
        made = await client.order("shop.example", "www.shop.example")
        assert made.status_code == 201, made.text
        assert [word.split()[0] for word in said] == ["WITH", "WITH"]
        said.clear()
        done = await client.post(made.json()["finalize"], {"csr": csr_for(["shop.example", "www.shop.example"])})
        assert done.json()["status"] == "valid", done.text
        # 33, before finalizes went together; the last tells other processes, where nothing gathers what they are told
        assert len(said) <= 12, said
        for url in (made.headers["location"], done.json()["certificate"], made.json()["authorizations"][0]):
            said.clear()
            assert (await client.post(url)).status_code == 200
            assert len(said) == 1, said


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_comes_with_the_nonce_is_what_is_read_one_by_one(house):
    """And nothing of anybody else's."""
    api, database, scope = house.api, house.api.house.database, house.api.house.ctx.scope
    await api.made("/api/v1/teams", {"id": "team-a", "name": "a"})
    await api.made("/api/v1/owners", {"id": "owner-a", "name": "a", "email": "a@acme.test", "team_id": "team-a"})
    await api.made("/api/v1/policies", RULE)
    client = await house.known(owner_id="owner-a", team_id="team-a")
    stranger = await house.known()
    order_id, proof_id, version_id = await asked_about(client)
    mine, other = (each.kid.rpartition("/")[2] for each in (client, stranger))
    subjects = [
        Subject(),
        Subject(orders_by=USUAL),
        Subject(order_id=order_id),
        Subject(order_id=order_id, finalizes=True),
        Subject(authorization_id=proof_id),
        Subject(version_id=version_id),
        Subject(order_id=order_id, authorization_id=proof_id, version_id=version_id, orders_by=USUAL),
        Subject(order_id=proof_id, authorization_id=version_id, version_id=order_id),
    ]
    until, number = api.clock.now() + timedelta(minutes=5), 0
    nobody = (database, scope, ("nonce-0", until), "acme-acc-nobody", "prof-default", subjects[6])
    found = await acme_entering.enter(*nobody)
    assert (found.account, found.key, found.order, found.authorization, found.version) == (None,) * 5
    for account_id in (mine, other):
        for subject in subjects:
            number += 1
            asked = (database, scope, (f"nonce-{number}", until), account_id, "prof-default", subject)
            found = await acme_entering.enter(*asked)
            assert found.spent
            assert (await acme_entering.enter(*asked)) == msgspec.structs.replace(found, spent=False)
            assert (await acme_entering._one_by_one(*asked)) == msgspec.structs.replace(found, spent=False)  # noqa: SLF001
            is_mine = account_id == mine
            assert (found.order is not None) == (is_mine and subject.order_id == order_id)
            assert bool(found.proofs) == (found.order is not None)
            assert (found.authorization is not None) == (is_mine and subject.authorization_id == proof_id)
            assert (found.version is not None) == (is_mine and subject.version_id == version_id)
            assert found.has_earlier == (is_mine and subject.finalizes)
            if is_mine and subject.orders_by is not None:
                assert [each.id for each in found.names] == ["iss-local", "rp-default", "owner-a", "team-a"]
                assert [each.name for each in found.rules] == ["only-ours"]
                assert found.key is not None


async def test_what_is_found_is_obeyed_at_once(house):
    """Rules, profile and key are as they are when the order is asked for, not as they were for the order before."""
    api, client = house.api, await house.known()
    assert (await client.order("a.example")).status_code == 201
    rule = await api.made("/api/v1/policies", RULE)
    answer = await client.order("a.test")
    assert (problem(answer), answer.status_code) == ("rejectedIdentifier", 400)
    assert (await client.order("a.example")).status_code == 201
    assert (await api.call("DELETE", f"/api/v1/policies/{rule['id']}")).status_code == 204
    assert (await client.order("a.test")).status_code == 201
    async with api.house.database.begin("test.profile") as tx:
        await catalogue.change(tx, api.house.ctx.scope, Profile, "prof-default", acme_issuer_id="iss-gone")
    refused = await client.order("a.example")
    assert (problem(refused), refused.status_code) == ("malformed", 400)
    async with api.house.database.begin("test.profile") as tx:
        await catalogue.change(tx, api.house.ctx.scope, Profile, "prof-default", acme_issuer_id="", enabled=False)
    assert (await client.order("a.example")).status_code == 404
    # a nonce is good for nothing by itself: whoever asked a moment ago has one still, and then no more
    api.clock.moment += timedelta(seconds=1)
    assert (await house.http.head(f"{client.base}/new-nonce")).status_code == 404


async def test_another_order_that_replaces_the_same_is_refused_by_the_database_itself(house):
    """Two replicas that both looked before either wrote."""
    client, database, scope = await house.known(), house.api.house.database, house.api.house.ctx.scope
    made = await client.order("a.example")
    async with database.read() as tx:
        order = await acme.get(tx, scope, AcmeOrder, made.headers["location"].rpartition("/")[2])
    first, second = (msgspec.structs.replace(order, id=f"acme-ord-{name}", replaces="x.y") for name in "ab")
    async with database.begin("test.order") as tx:
        await acme.insert_order(tx, scope, first, [], [])
    with pytest.raises(Conflict):
        async with database.begin("test.order") as tx:
            await acme.insert_order(tx, scope, second, [], [])


ENDS = {
    "order": (AcmeOrder, {"status": "invalid"}),
    "account": (AcmeAccount, {"status": "deactivated"}),
    "authorization": (AcmeAuthorization, {"status": "deactivated"}),
    "key": (ExternalKey, {"revoked_at": datetime(2026, 1, 1, tzinfo=UTC)}),
}


async def test_what_ends_between_look_and_commit_is_not_issued(house):
    """Each alone, after the nonce of the finalize was spent: nothing is issued, and it is told as ever."""
    client, database, scope = await house.known(), house.api.house.database, house.api.house.ctx.scope
    real = acme.hold_ready
    for number, (what, (kind, values)) in enumerate(ENDS.items()):
        order = (await client.order(f"e{number}.example")).json()
        account_id, order_id = client.kid.rpartition("/")[2], order["finalize"].split("/")[-2]
        ids = {"account": account_id, "order": order_id, "authorization": order["authorizations"][0].rpartition("/")[2]}
        async with database.read() as tx:
            ids["key"] = (await acme.get(tx, scope, AcmeAccount, account_id)).external_key_id
            before = await acme.get(tx, scope, kind, ids[what])
        held: list[set[str]] = []

        async def hold(tx, *asked, kind=kind, record_id=ids[what], values=values, held=held):
            await acme.change(tx, scope, kind, record_id, **values)
            held.append(await real(tx, *asked))
            await acme.change(tx, scope, kind, record_id, **{name: getattr(before, name) for name in values})  # noqa: B023
            return held[-1]

        with mock.patch.object(acme, "hold_ready", hold):
            await client.post(order["finalize"], {"csr": csr_for([f"e{number}.example"])})
        assert held == [set()], what
    now, made = house.api.clock.now(), (await client.order("late.example")).headers["location"].rpartition("/")[2]
    async with database.begin("test.hold") as tx:
        assert await real(tx, scope, [made], now) == {made}
        assert await real(tx, scope, [made], now + timedelta(days=2)) == set()
