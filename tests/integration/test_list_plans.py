"""Lists stand on their indexes: what the two databases say they would do with an inventory of 20,000."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from certctl.core.catalogue import Profile, Team
from certctl.core.certificate import Certificate
from certctl.core.scope import Reach, Scope
from certctl.core.status import CertificateStatus
from certctl.store import catalogue, labels, migrate, schema, searches, stats
from certctl.store.listings import CERTIFICATES, JOBS, VERSIONS
from certctl.store.lists import Asked, Listing, read_list, rows_wanted
from certctl.store.orders import Position
from certctl.store.tx import Database
from peers.inventory import NOW, TENANT, fill, host

WHOLE = Scope.whole(TENANT)
COUNT = 20_000
START = NOW - timedelta(seconds=COUNT)


def after(value: Any, number: int, kind: str = "cert") -> Position:
    return Position(value, f"{kind}-{number:08}", COUNT, False)


TWO = {"status": ("Expiring", "Failed")}
IN_USE = {"status": ("Active", "Expired", "Expiring", "Failed", "Pending", "RenewalInProgress")}

# what is asked, and how many rows of the big table the answer may cost at most, by what PostgreSQL really read
ASKED: dict[str, tuple[Listing[Any], Asked]] = {
    "certificates": (CERTIFICATES, Asked(sort="createdAt")),
    "certificates, backwards": (CERTIFICATES, Asked(sort="createdAt", descending=True)),
    "certificates, far in": (
        CERTIFICATES,
        Asked(sort="createdAt", after=after(START + timedelta(seconds=15_000), 15_000)),
    ),
    "by name, far in": (CERTIFICATES, Asked(sort="name", after=after("site-015000", 15_000))),
    "by change, backwards, far in": (
        CERTIFICATES,
        Asked(sort="updatedAt", descending=True, after=after(NOW - timedelta(seconds=9_000), 9_000)),
    ),
    "by status": (CERTIFICATES, Asked(sort="createdAt", filters={"status": ("Expiring",)})),
    "by owner": (CERTIFICATES, Asked(sort="createdAt", filters={"owner_id": ("owner-7",)})),
    "by team": (CERTIFICATES, Asked(sort="createdAt", filters={"team_id": ("team-7",)})),
    "by issuer": (CERTIFICATES, Asked(sort="createdAt", filters={"issuer_id": ("iss-local",)})),
    "by profile": (CERTIFICATES, Asked(sort="createdAt", filters={"profile_id": ("prof-3",)})),
    "by environment": (CERTIFICATES, Asked(sort="createdAt", filters={"environment": ("staging",)})),
    "on one target": (CERTIFICATES, Asked(sort="createdAt", filters={"target_id": ("t-7",)})),
    "on one agent": (CERTIFICATES, Asked(sort="expiresAt", filters={"agent_id": ("agent-7",)})),
    "searched by name": (CERTIFICATES, Asked(sort="createdAt", q=host(4321))),
    "searched by domain": (CERTIFICATES, Asked(sort="createdAt", q="host000001.zone1.example.com")),
    "searched by serial number": (CERTIFICATES, Asked(sort="createdAt", q="ab:cd:ef:01:23:45")),
    "soon to expire": (
        CERTIFICATES,
        Asked(sort="expiresAt", filters={"expires_before": (NOW + timedelta(hours=20),)}),
    ),
    "ends, the last first": (CERTIFICATES, Asked(sort="expiresAt", descending=True)),
    "ends, far in": (CERTIFICATES, Asked(sort="expiresAt", after=after(NOW + timedelta(hours=1500), 1_500))),
    "ends of two states": (CERTIFICATES, Asked(sort="expiresAt", filters=TWO)),
    "ends of what is in use, far in": (
        CERTIFICATES,
        Asked(sort="expiresAt", filters=IN_USE, after=after(NOW + timedelta(hours=1500), 1_500)),
    ),
    "two states": (CERTIFICATES, Asked(sort="createdAt", descending=True, filters=TWO)),
    "one state by change": (CERTIFICATES, Asked(sort="updatedAt", descending=True, filters={"status": ("Failed",)})),
    "what is in use by change": (CERTIFICATES, Asked(sort="updatedAt", filters=IN_USE)),
    "by state": (CERTIFICATES, Asked(sort="status")),
    "by state, far in": (
        CERTIFICATES,
        Asked(sort="status", after=Position(["Failed", START], "cert-00000000", COUNT, False)),
    ),
    "two states by state": (CERTIFICATES, Asked(sort="status", descending=True, filters=TWO)),
    "by environment, backwards": (CERTIFICATES, Asked(sort="environment", descending=True)),
    "two owners": (CERTIFICATES, Asked(sort="createdAt", filters={"owner_id": ("owner-7", "owner-9")})),
    "by source": (CERTIFICATES, Asked(sort="createdAt", filters={"source": ("Import",)})),
    "jobs": (JOBS, Asked(sort="createdAt", descending=True)),
    "jobs of two states": (JOBS, Asked(sort="createdAt", descending=True, filters={"status": ("Failed", "Running")})),
    "jobs by end": (JOBS, Asked(sort="completedAt", descending=True)),
    "jobs by end, far in": (JOBS, Asked(sort="completedAt", after=after(START, 0, "job"))),
    "jobs by state": (JOBS, Asked(sort="status")),
    "jobs by type": (JOBS, Asked(sort="type", descending=True)),
    "jobs, far in": (JOBS, Asked(sort="createdAt", descending=True, after=after(START, 5_000, "job"))),
    "jobs of a certificate": (JOBS, Asked(sort="createdAt", descending=True, filters={"certificate_id": ("cert-00000007",)})),
    "jobs of an agent": (JOBS, Asked(sort="createdAt", descending=True, filters={"agent_id": ("agent-7",)})),
    "jobs of a type": (JOBS, Asked(sort="createdAt", descending=True, filters={"type": ("Issuance",)})),
    "jobs of a state": (JOBS, Asked(sort="createdAt", descending=True, filters={"status": ("Failed",)})),
    "versions": (VERSIONS, Asked(sort="createdAt", descending=True, fixed={"certificate_id": "cert-00000007"})),
}  # fmt: skip
# sorted there: the few on a target
SORTED_ON_SQLITE = {"on one agent", "on one target"}


@pytest.fixture(scope="module")
def inventory(postgres_server, tmp_path_factory) -> dict[str, str]:
    """One filled database of each kind."""
    urls = {"postgresql": postgres_server.new_database(), "sqlite": f"sqlite:///{tmp_path_factory.mktemp('db')}/c.db"}

    async def make(url: str) -> None:
        database = Database(url)
        try:
            await migrate.migrate(database)
            await fill(database, COUNT)
            await map_some(database)
        finally:
            await database.close()

    for url in urls.values():
        asyncio.run(make(url))
    return urls


async def map_some(database: Database) -> None:
    """The first 4,000 lie on 1,000 targets of 250 agents."""
    born = {"created_at": NOW, "updated_at": NOW}
    async with database.begin("inventory") as tx:
        targets = [
            {
                "tenant_id": TENANT,
                "id": f"t-{number}",
                "name": f"t-{number}",
                "type": "NGINX",
                "config": {},
                "enabled": True,
            }
            | {"agent_id": f"agent-{number % 250}", **born}
            for number in range(1000)
        ]
        await tx.execute(sa.insert(schema.targets), targets)
        mapped = [
            {"tenant_id": TENANT, "certificate_id": f"cert-{number:08}", "target_id": f"t-{number % 1000}"}
            for number in range(4000)
        ]
        await tx.execute(sa.insert(schema.certificate_targets), mapped)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("VACUUM ANALYZE" if database.dialect == "postgresql" else "ANALYZE"))


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in nodes(inner))]


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("name", ASKED)
async def test_postgresql_reads_no_more_than_it_shows(inventory, name):
    listing, asked = ASKED[name]
    database = Database(inventory["postgresql"])
    try:
        async with database.engine.connect() as connection:
            statement = rows_wanted(WHOLE, listing, asked)
            compiled = statement.compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True, "render_postcompile": True}
            )
            told = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")
            plan = told.scalar()[0]["Plan"]
    finally:
        await database.close()
    for node in nodes(plan):
        assert node["Node Type"] != "Seq Scan", (name, plan)
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        assert read <= 1000, (name, node["Node Type"], read)


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("name", ASKED)
async def test_sqlite_searches_by_index_and_sorts_nothing(inventory, name):
    listing, asked = ASKED[name]
    database = Database(inventory["sqlite"])
    try:
        async with database.engine.connect() as connection:
            statement = rows_wanted(WHOLE, listing, asked)
            compiled = statement.compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True, "render_postcompile": True}
            )
            told = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")).all()
    finally:
        await database.close()
    steps = [row[3] for row in told]
    scans = [
        step
        for step in steps
        if step.startswith("SCAN") and not step.startswith(("SCAN (", "SCAN certificate_ids", "SCAN CONSTANT"))
    ]
    assert not [step for step in scans if listing.table.name in step or "certificate_names" in step], (name, steps)
    if not asked.q and name not in SORTED_ON_SQLITE:
        # the rows of one page of a range are, to be merged with those of others
        sorts = [
            before
            for before, step in pairwise(steps)
            if "TEMP B-TREE FOR ORDER" in step and not before.startswith("SCAN anon")
        ]
        assert not sorts, (name, steps)


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", CERTIFICATES.sorts)
async def test_ranges_that_are_merged_hold_every_row_once_in_order(inventory, kind, descending, sort):
    columns = [CERTIFICATES.sorts[sort], schema.certificates.c.created_at, schema.certificates.c.id]
    several = {"status": ("Active", "Failed"), "owner_id": ("owner-0", "owner-19")}
    database, found, after = Database(inventory[kind]), [], None
    try:
        async with database.read() as tx:
            everything = await tx.all(
                Certificate,
                sa.select(schema.certificates).where(
                    schema.certificates.c.status.in_(several["status"]),
                    schema.certificates.c.owner_id.in_(several["owner_id"]),
                ),
            )
            while True:
                asked = Asked(sort=sort, descending=descending, filters=several, limit=130, after=after)
                part = await read_list(tx, WHOLE, CERTIFICATES, asked)
                found += [row.id for row in part.data]
                after = part.last
                if after is None:
                    break
    finally:
        await database.close()
    then = columns if sort in CERTIFICATES.then else [columns[0], columns[2]]

    def place(row: Certificate) -> list[tuple[bool, Any]]:
        return [((value := getattr(row, column.key)) is None, value) for column in then]

    assert len(everything) == 800
    assert any(row.expires_at is None for row in everything)
    assert found == [row.id for row in sorted(everything, key=place, reverse=descending)]


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("scope", ["whole", "team"])
async def test_what_lies_on_a_target_or_an_agent_is_found(inventory, kind, scope):
    reach = {"whole": WHOLE, "team": Scope(TENANT, (Reach(teams=("team-7",)),))}[scope]
    database = Database(inventory[kind])
    try:
        async with database.read() as tx:
            one = await read_list(tx, reach, CERTIFICATES, Asked(sort="createdAt", filters={"target_id": ("t-7",)}))
            two = await read_list(
                tx, reach, CERTIFICATES, Asked(sort="name", filters={"agent_id": ("agent-7", "agent-8")})
            )
            none = await read_list(tx, reach, CERTIFICATES, Asked(sort="createdAt", filters={"agent_id": ("a-none",)}))
    finally:
        await database.close()
    everything = [number for number in range(4000) if scope == "whole" or number % 20 == 7]
    assert [row.id for row in one.data] == [f"cert-{number:08}" for number in everything if number % 1000 == 7]
    assert [row.id for row in two.data] == [f"cert-{number:08}" for number in everything if number % 250 in (7, 8)]
    assert (one.total, two.total, none.total) == (len(one.data), len(two.data), 0)


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_totals_of_a_large_inventory(inventory, kind):
    database = Database(inventory[kind])
    try:
        async with database.read() as tx:
            whole = await read_list(tx, WHOLE, CERTIFICATES, Asked(sort="createdAt", limit=1))
            many = await read_list(tx, WHOLE, CERTIFICATES, Asked(sort="createdAt", limit=1, q="host"))
            zone = await read_list(tx, WHOLE, CERTIFICATES, Asked(sort="name", limit=500, q="zone3.example.com"))
    finally:
        await database.close()
    assert (whole.total, whole.estimated) == (COUNT, False)
    # each is called so once, common name and SAN being one text: counted are those of the first 9,000 names
    assert (many.total, many.estimated) == (searches.SORTED, True)
    assert zone.total == len(zone.data) == len(range(3, COUNT, 97))


# what a search may sort, gather and walk, in rows; a walk of seven rows ends too early, and all is sorted after all
WAYS = {
    "gathered": (5, 40_000, 20_000),
    "asked one by one": (5, 10, 20_000),
    "gathered in vain": (5, 40_000, 7),
    "asked one by one in vain": (5, 10, 7),
}
TEAM = Scope(TENANT, (Reach(teams=("team-7", "team-8")),))
ACTIVE = {"status": ("Active", "Expiring")}


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_whichever_way_a_search_is_read_it_finds_the_same(inventory, kind, way, monkeypatch):
    for name, rows in zip(("SORTED", "GATHERED", "WALKED"), WAYS[way], strict=True):
        monkeypatch.setattr(searches, name, rows)
    asked = [
        Asked(q=q, sort=sort, descending=descending, filters=filters, limit=4)
        for q in ("zone3.example.com", "host000")
        for sort, descending, filters in (("createdAt", False, {}), ("expiresAt", True, ACTIVE))
    ]
    database = Database(inventory[kind])
    try:
        async with database.read() as tx:
            for scope in (WHOLE, TEAM):
                for each in asked:
                    truth = (await tx.execute(rows_wanted(scope, CERTIFICATES, replace(each, limit=500)))).all()
                    found: list[str] = []
                    page = each
                    for _ in range(2):
                        part = await read_list(tx, scope, CERTIFICATES, page)
                        found += [row.id for row in part.data]
                        if part.last is None:
                            break
                        page = replace(each, after=part.last)
                    assert found == [row.id for row in truth[: len(found)]], (way, scope, each)
                    assert len(found) == min(8, len(truth)), (way, scope, each)
                    assert part.total <= len(truth) or len(truth) == 501, (way, scope, each)
                    assert part.estimated or part.total == len(truth) or len(truth) == 501, (way, scope, each)
    finally:
        await database.close()


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("q", ["example.com", "host0", "zone1"])
async def test_a_search_that_finds_all_reads_a_page_of_it(inventory, q):
    database = Database(inventory["postgresql"])
    said: list[Any] = []
    try:
        async with database.read() as tx:
            run = tx.execute

            async def saying(statement, rows=None):
                said.append(statement)
                return await run(statement, rows)

            tx.execute = saying
            await read_list(tx, WHOLE, CERTIFICATES, Asked(q=q, sort="createdAt"))
        async with database.engine.connect() as connection:
            for statement in said:
                compiled = statement.compile(
                    dialect=connection.dialect, compile_kwargs={"literal_binds": True, "render_postcompile": True}
                )
                told = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")
                for node in nodes(told.scalar()[0]["Plan"]):
                    read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                    most = 1000 if node.get("Relation Name") == CERTIFICATES.table.name else searches.GATHERED + 1
                    assert read <= most, (q, node, str(compiled))
    finally:
        await database.close()


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_tabs_count_no_further_than_they_say(inventory, kind):
    database = Database(inventory[kind])
    team = Scope(TENANT, (Reach(teams=("team-7",)),))
    try:
        async with database.read() as tx:
            whole = await stats.by_status_up_to(tx, WHOLE, 10_000)
            theirs = await stats.by_status_up_to(tx, team, 10_000)
            two = await stats.by_status_up_to(tx, WHOLE, 10_000, (CertificateStatus.FAILED, CertificateStatus.ARCHIVED))
            none = await stats.by_status_up_to(tx, WHOLE, 10_000, ())
            large = [await stats.has_more_than(tx, WHOLE, number) for number in (COUNT - 1, COUNT)]
    finally:
        await database.close()
    assert (whole["Active"].number, whole["Active"].estimated) == (10_000, True), "16,000 are"
    assert (whole["Failed"].number, whole["Failed"].estimated) == (COUNT // 20, False)
    assert (whole["Archived"].number, whole["Archived"].estimated) == (0, False)
    assert sum(total.number for total in theirs.values()) == COUNT // 20
    assert large == [True, False]
    assert two == {name: whole[name] for name in ("Failed", "Archived")}
    assert none == {}


@pytest.mark.xdist_group("list-plans")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_names_of_several_kinds_are_read_at_once_each_by_its_own_scope(inventory, kind):
    database = Database(inventory[kind])
    nobody = Scope(TENANT, (Reach(teams=("team-of-nobody",)),))
    born = {"tenant_id": TENANT, "created_at": NOW, "updated_at": NOW}
    try:
        async with database.begin("labels") as tx:
            for number in range(3):
                made = Team(id=f"team-{number}", name=f"Team {2 - number}", description="", row_version=1, **born)
                await catalogue.insert(tx, WHOLE, made)
        async with database.read() as tx:
            first = await labels.first(tx, WHOLE, [Team, Profile], 2)
            wanted = {Team: (WHOLE, ["team-1", "", "team-9"]), Profile: (WHOLE, [])}
            named = await labels.named(tx, wanted)
            hidden = await labels.named(tx, {Team: (nobody, ["team-1"])})
            none = await labels.named(tx, {Team: (WHOLE, [])})
    finally:
        await database.close()
    assert [(label.id, label.name) for label in first[Team]] == [("team-2", "Team 0"), ("team-1", "Team 1")]
    assert first[Profile] == []
    assert named == {Team: {"team-1": "Team 1"}, Profile: {}}
    assert hidden == none == {Team: {}}
