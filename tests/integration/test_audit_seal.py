"""The audit log and its seal, through the API, on both databases: whatever somebody with the database in their hands does to a
sealed event is found, and named; what is not touched never reads broken, however many write at once.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl import ledger
from certctl.client.sealed import NotIntact, verify_export
from certctl.control import audit
from certctl.core.actor import SYSTEM
from certctl.core.events import Event, EventType
from certctl.pki import merkle
from certctl.pki.checkpoint import open_checkpoint
from certctl.store import audit_tree
from certctl.store.schema import audit_heads, audit_leaves, audit_nodes, events
from certctl.store.schema import audit_tree as trees
from integration.api_house import Api, open_api


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as made:
        yield made


async def happen(api: Api, number: int, name: str = "thing") -> None:
    """So many events, a few in each transaction."""
    ctx = api.house.ctx
    for low in range(0, number, 50):
        told = [
            Event(
                type=EventType.CONFIG_CREATED,
                subject_type="team",
                subject_id=f"{name}-{each}",
                actor=SYSTEM,
                details={"n": each, "name": "Zo\u00eb \u202e", "share": 0.1, "nothing": None},
            )
            for each in range(low, min(low + 50, number))
        ]
        async with ctx.database.begin("test") as tx:
            await ledger.append(tx, ctx.scope, ctx.now(), *told)


async def verified(api: Api) -> dict:
    answer = await api.call("POST", "/api/v1/audit/verify", {})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def export(api: Api, **asked: str) -> list[bytes]:
    answer = await api.call("GET", "/api/v1/audit/export", params={"seal": "true", **asked})
    assert answer.status_code == 200, answer.text
    return answer.content.splitlines(keepends=True)


async def test_every_event_is_read_filtered_and_paged(api):
    await happen(api, 3)
    await api.made("/api/v1/teams", {"id": "t-web", "name": "Web"})
    page = await api.get("/api/v1/audit?resource_id=t-web")
    (made,) = page["data"]
    assert (made["action"], made["resource_type"], made["event_category"]) == ("config_created", "team", "config")
    assert made["actor_type"] == "APIKey"
    assert made["request_id"]
    assert await api.get(f"/api/v1/audit/{made['id']}") == made
    auth = await api.get("/api/v1/audit?category=AUTH&sort=timestamp")
    assert auth["data"][0]["action"] == "bootstrap_used"
    assert {one["event_category"] for one in auth["data"]} == {"auth"}
    whole = await api.get("/api/v1/audit?per_page=500")
    first = await api.get("/api/v1/audit?page_size=2")
    second = await api.get(f"/api/v1/audit?page_size=500&cursor={first['next_cursor']}")
    told = [one["id"] for one in (*first["data"], *second["data"])]
    assert told == [one["id"] for one in whole["data"]]
    assert (await api.call("GET", "/api/v1/audit/audit-nothing")).status_code == 404
    assert (await api.call("GET", "/api/v1/audit?colour=red")).status_code in {400, 422}


async def test_the_log_is_for_those_who_may_read_everything(api):
    await api.made("/api/v1/teams", {"id": "t-web", "name": "Web"})
    (made,) = (await api.get("/api/v1/audit?resource_id=t-web"))["data"]
    limited = await api.key("r-viewer", teams=["t-web"])
    for path in ("", "/export", "/seal", "/consistency?first=1", f"/{made['id']}", f"/{made['id']}/proof"):
        assert (await api.call("GET", f"/api/v1/audit{path}", key=limited)).status_code == 403, path
    assert (await api.call("POST", "/api/v1/audit/verify", {}, key=limited)).status_code == 403
    viewer, auditor = await api.key("r-viewer"), await api.key("r-auditor")
    assert (await api.call("GET", "/api/v1/audit/export", key=viewer)).status_code == 403
    exported = await api.call("GET", "/api/v1/audit/export", key=auditor)
    last = json.loads(exported.content.splitlines()[-1])
    assert (last["action"], last["resource_type"]) == ("audit_exported", "audit"), "who takes the log away stands in it"


async def test_what_is_sealed_is_proved_to_who_has_only_the_key(api):
    await happen(api, 700)
    assert (await verified(api))["intact"] is True
    old = await api.get("/api/v1/audit/seal")
    await happen(api, 300, "later")
    lines = await export(api)
    new = await api.get("/api/v1/audit/seal")
    assert new["verifier_key"] == old["verifier_key"]
    found = verify_export(lines, old["verifier_key"], [old["checkpoint"], new["checkpoint"]])
    assert (found.start, found.end) == (0, new["size"])
    assert len(lines) == new["size"] + 1
    event = json.loads(lines[517])
    proof = await api.get(f"/api/v1/audit/{event['id']}/proof")
    head = open_checkpoint(proof["checkpoint"], old["verifier_key"])
    path = [bytes.fromhex(one) for one in proof["path"]]
    assert merkle.proves_inclusion(bytes.fromhex(event["leaf_hash"]), 517, head.size, path, head.root)
    told = await api.get(f"/api/v1/audit/consistency?first={old['size']}&second={new['size']}")
    before, after = (open_checkpoint(one["checkpoint"], old["verifier_key"]) for one in (old, new))
    grown = [bytes.fromhex(one) for one in told["proof"]]
    assert merkle.proves_consistency(before.size, after.size, before.root, after.root, grown)
    assert (await api.call("GET", "/api/v1/audit/consistency?first=999999")).status_code == 400


async def test_a_part_of_the_log_is_proved_as_well(api):
    await happen(api, 300)
    await audit.seal_all(api.house.ctx)
    api.clock.moment += timedelta(hours=1)
    since = api.clock.now()
    await happen(api, 40, "within")
    api.clock.moment += timedelta(hours=1)
    until = api.clock.now()
    await happen(api, 300, "after")
    asked = {"from": since.isoformat(), "to": until.isoformat()}
    lines = await export(api, **asked)
    assert len(lines) == 41
    found = verify_export(lines)
    assert found.end - found.start == 40
    plain = await api.call("GET", "/api/v1/audit/export", params=asked | {"category": "config", "limit": "7"})
    assert [json.loads(line)["resource_id"] for line in plain.content.splitlines()] == [f"within-{n}" for n in range(7)]
    nothing = await export(api, **{"from": "2001-01-01T00:00:00Z", "to": "2001-01-02T00:00:00Z"})
    assert verify_export(nothing).end == 0
    for bad in (
        {"category": "colour"},
        {"seal": "true", "limit": "3"},
        {"from": "yesterday"},
        {"from": "2026-01-01T00:00:00"},
    ):
        assert (await api.call("GET", "/api/v1/audit/export", params=bad)).status_code in {400, 422}


Tamper = Callable[[sa.ext.asyncio.AsyncConnection], Awaitable[None]]


def _seq(index: int) -> sa.ScalarSelect:
    return sa.select(audit_leaves.c.seq).where(audit_leaves.c.leaf_index == index).scalar_subquery()


async def edit_an_event(tx):
    await tx.execute(sa.update(events).where(events.c.seq == _seq(130)).values(actor="somebody-else"))


async def edit_its_details(tx):
    await tx.execute(sa.update(events).where(events.c.seq == _seq(130)).values(details={"n": 1}))


async def delete_an_event(tx):
    await tx.execute(sa.delete(events).where(events.c.seq == _seq(130)))


async def delete_an_event_with_its_leaf(tx):
    await tx.execute(sa.delete(events).where(events.c.seq == _seq(130)))
    await tx.execute(sa.delete(audit_leaves).where(audit_leaves.c.leaf_index == 130))


async def swap_two(tx):
    first, second = [(await tx.execute(sa.select(_seq(at)))).scalar() for at in (130, 131)]
    for at, seq in ((130, -1), (131, first), (130, second)):
        await tx.execute(sa.update(audit_leaves).where(audit_leaves.c.leaf_index == at).values(seq=seq))


async def edit_an_event_and_its_leaf(tx):
    row = (await tx.execute(sa.select(events).where(events.c.seq == _seq(130)))).mappings().one()
    changed = ledger.EventRow(**{**row, "actor": "somebody-else"})
    from certctl.ledger.seal import entry_of

    hashed = merkle.leaf_hash(entry_of(changed).as_bytes())
    await tx.execute(sa.update(events).where(events.c.seq == row["seq"]).values(actor="somebody-else"))
    await tx.execute(sa.update(audit_leaves).where(audit_leaves.c.leaf_index == 130).values(hash=hashed))


async def change_a_subtree(tx):
    await tx.execute(sa.update(audit_nodes).where(audit_nodes.c.position == 0).values(hash=b"x" * 32))


async def cut_the_tail(tx):
    size = (await tx.execute(sa.select(trees.c.size))).scalar()
    await tx.execute(sa.delete(events).where(events.c.seq >= _seq(290)))
    await tx.execute(sa.delete(audit_leaves).where(audit_leaves.c.leaf_index >= 290))
    assert size > 290
    await tx.execute(sa.update(trees).values(size=290))


async def forge_the_newest_head(tx):
    size = (await tx.execute(sa.select(trees.c.size))).scalar()
    note = (await tx.execute(sa.select(audit_heads.c.note).where(audit_heads.c.size == size))).scalar()
    lines = note.split("\n")
    lines[2] = base64.b64encode(b"y" * 32).decode()
    forged = sa.update(audit_heads).where(audit_heads.c.size == size)
    await tx.execute(forged.values(note="\n".join(lines), root=b"y" * 32))


async def slip_one_in(tx):
    row = dict((await tx.execute(sa.select(events).where(events.c.seq == _seq(130)))).mappings().one())
    await tx.execute(sa.insert(events).values(row | {"seq": -5, "id": "audit-slipped-in"}))


TAMPERED = (
    (edit_an_event, {130}),
    (edit_its_details, {130}),
    (delete_an_event, {130}),
    (delete_an_event_with_its_leaf, {130}),
    (swap_two, {130}),
    (edit_an_event_and_its_leaf, set(range(130, 400))),
    (change_a_subtree, set(range(400))),
    (cut_the_tail, {290}),
    (forge_the_newest_head, set(range(400))),
    (slip_one_in, set(range(320, 400))),
)
TABLES = (events, audit_leaves, audit_nodes, audit_heads, trees)


async def snapshot(api: Api) -> list[list[dict]]:
    async with api.house.database.engine.connect() as connection:
        return [[dict(row) for row in (await connection.execute(sa.select(each))).mappings()] for each in TABLES]


async def restore(api: Api, kept: list[list[dict]]) -> None:
    async with api.house.database.engine.begin() as connection:
        for table, rows in zip(TABLES, kept, strict=True):
            await connection.execute(sa.delete(table))
            await connection.execute(sa.insert(table), rows)


async def test_what_is_done_to_the_log_is_found_and_named(api):
    await happen(api, 320)
    assert (await verified(api))["intact"] is True
    kept = await snapshot(api)
    for number, (tamper, where) in enumerate(TAMPERED, 1):
        async with api.house.database.engine.begin() as connection:
            await tamper(connection)
        found = await verified(api)
        assert found["intact"] is False, tamper.__name__
        assert found["broken_at"] in where, (tamper.__name__, found)
        assert found["broken"]
        stands = await api.get("/api/v1/audit/seal")
        assert (stands["broken_at"], stands["broken"]) == (found["broken_at"], found["broken"])
        metrics = (await api.call("GET", "/api/v1/metrics/prometheus")).text
        assert "certctl_audit_seal_broken 1" in metrics
        assert f"certctl_audit_chain_break_detected_total {number}" in metrics.replace(".0", "")
        await restore(api, kept)
        assert (await verified(api))["intact"] is True, f"after {tamper.__name__}"


async def test_an_older_head_tells_of_a_cut_that_the_database_alone_cannot_know(api):
    await happen(api, 320)
    await audit.seal_all(api.house.ctx)
    kept = await api.get("/api/v1/audit/seal")
    async with api.house.database.engine.begin() as connection:
        # everything consistently: events, leaves, heads and the place in the log are those of the evening before
        await connection.execute(sa.delete(events).where(events.c.seq >= _seq(200)))
        await connection.execute(sa.delete(audit_leaves))
        await connection.execute(sa.delete(audit_nodes))
        await connection.execute(sa.delete(audit_heads))
        await connection.execute(sa.update(trees).values(size=0, transaction_id=0, seq=0, verified_size=0))
    assert (await verified(api))["intact"] is True
    with pytest.raises(NotIntact, match="events are gone"):
        verify_export(await export(api), kept["verifier_key"], [kept["checkpoint"]])


async def test_eight_writers_and_two_sealers_never_read_broken(api):
    ctx = api.house.ctx

    async def write(number: int) -> None:
        for turn in range(12):
            await happen(api, 4, f"writer-{number}-{turn}")

    async def seal_now_and_then() -> None:
        for _ in range(15):
            await audit.seal_all(ctx)
            await asyncio.sleep(0)

    async def verify_meanwhile() -> None:
        for _ in range(3):
            await audit.verify_due(ctx, timedelta(0))

    sealers = [seal_now_and_then() for _ in range(2 if ctx.database.dialect == "postgresql" else 1)]
    await asyncio.gather(*(write(number) for number in range(8)), *sealers, verify_meanwhile())
    assert (await verified(api))["intact"] is True
    async with ctx.database.read() as tx:
        tree = await audit_tree.tree(tx, ctx.scope)
        all_events = await tx.scalar(sa.select(sa.func.count()).select_from(events))
        waiting = await audit_tree.count_unsealed(tx, ctx.scope)
    assert (tree.broken_at, tree.size + waiting) == (None, all_events)
    found = verify_export(await export(api))
    assert found.end == found.head.size


async def test_many_levels_and_what_is_new_alone(api):
    """Two levels of stored subtrees need 65,536 events: the same with a smaller fan-out is in the unit tests; here one level."""
    await happen(api, 1100)
    await audit.seal_all(api.house.ctx)
    await audit.verify_due(api.house.ctx, timedelta(hours=6))
    await happen(api, 30, "new")
    await audit.seal_all(api.house.ctx)
    await audit.verify_due(api.house.ctx, timedelta(hours=6))
    stands = await api.get("/api/v1/audit/seal")
    assert stands["verified_size"] == stands["size"] > 1100
    async with api.house.database.engine.begin() as connection:
        await connection.execute(sa.update(events).where(events.c.subject_id == "new-3").values(actor="x"))
        await connection.execute(sa.update(trees).values(verified_size=1090))
    await audit.verify_due(api.house.ctx, timedelta(hours=6))
    assert (await api.get("/api/v1/audit/seal"))["broken_at"] > 1100


async def test_an_export_that_was_touched_is_refused_and_the_line_is_named(api):
    await happen(api, 60)
    lines = await export(api)
    key = (await api.get("/api/v1/audit/seal"))["verifier_key"]
    assert verify_export(lines, key)
    for number, bad in (
        (7, [*lines[:6], lines[6].replace(b"System", b"Nobody"), *lines[7:]]),
        (7, [*lines[:6], lines[6].replace(b'"event_category":"config"', b'"event_category":"auth"'), *lines[7:]]),
        (7, [*lines[:6], lines[6].replace(b'{"id"', b'{"note":"approved by the board","id"'), *lines[7:]]),
        (7, [*lines[:6], lines[6].replace(b'"actor":', b'"actor":"somebody","actor":'), *lines[7:]]),
        (7, [*lines[:6], *lines[7:]]),
        (7, [*lines[:6], lines[7], lines[6], *lines[8:]]),
        (7, [*lines[:6], lines[6][:50], *lines[7:]]),
        (0, lines[:-1]),
        (0, lines[:-3] + lines[-1:]),
        (len(lines) + 1, [*lines, lines[3]]),
    ):
        with pytest.raises(NotIntact) as refused:
            verify_export(bad, key)
        assert refused.value.line == number, refused.value
    other = key.replace("certctl/audit/", "certctl/other/")
    for wrong in (other, "nonsense", key[:-4]):
        with pytest.raises(NotIntact):
            verify_export(lines, wrong)


async def test_no_bytes_make_the_verifier_fall(api):
    await happen(api, 20)
    lines = await export(api)

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.integers(0, len(lines) - 1), st.binary(max_size=80), st.integers(0, 400))
    def touched(number, what, at):
        line = lines[number]
        changed = [*lines[:number], line[:at] + what + line[at + len(what) :], *lines[number + 1 :]]
        try:
            verify_export(changed)
        except NotIntact:
            return
        same = json.loads(changed[number]) == json.loads(line)
        assert same, "a changed line was taken"

    touched()
