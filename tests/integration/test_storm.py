"""A fleet comes back at once: taken on at a pace, all of it, and whoever holds a lease still holds it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import socket
import ssl
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from certctl.core.ids import DEFAULT_TENANT
from certctl.doors.accepting import Accepting
from certctl.lifecycle import flow
from certctl.store import schema
from certctl.store.tx import Database
from integration.api_house import open_api
from peers.agent_server import AgentServer
from peers.crowd import BOOT, Crowd, Line, living
from peers.fleet import fleet

AGENTS = 200
AT_WORK = 3
WAIT = 60


def agent_id(number):
    return f"agent-{number:06}"


def credential(number):
    return f"cta_storm-{number:06}"


def trusting(path):
    return ssl.create_default_context(cafile=str(path))


async def until(ready):
    async with asyncio.timeout(WAIT):
        while not ready():
            await asyncio.sleep(0.02)


class Paced:
    """A door that takes connections on at a pace, and what came through it."""

    def __init__(self, folder, per_second):
        self.pair = AgentServer(folder)
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair._certificate_file, self.pair._key_file)
        self.through: list[float] = []
        self.began = asyncio.get_running_loop().time()
        self.accepting = Accepting(self.listener, context, self._made, per_second)

    def _made(self):
        self.through.append(asyncio.get_running_loop().time())
        return asyncio.Protocol()

    async def connect(self):
        loop = asyncio.get_running_loop()
        context = trusting(self.pair.ca_file)
        transport, _ = await loop.create_connection(Line, "127.0.0.1", self.port, ssl=context)
        return transport


@pytest.fixture
async def paced(tmp_path):
    made = Paced(tmp_path, 100)
    yield made
    made.accepting.close()
    await made.accepting.wait_closed()
    made.listener.close()


async def test_no_more_begin_than_the_pace_allows_and_all_get_in(paced):
    async with asyncio.timeout(WAIT):
        transports = await asyncio.gather(*(paced.connect() for _ in range(60)))
    assert len(paced.through) == 60
    # whatever the machine is busy with: by a moment no more have begun than had a token by then
    for number, at in enumerate(paced.through, start=1):
        assert number <= 10 + 1 + 100 * (at - paced.began)
    for transport in transports:
        transport.abort()


async def test_whoever_says_nothing_keeps_nobody_out(paced):
    silent = [socket.create_connection(("127.0.0.1", paced.port)) for _ in range(50)]
    try:
        async with asyncio.timeout(WAIT):
            (await paced.connect()).abort()
    finally:
        for each in silent:
            each.close()


async def test_a_door_that_closes_takes_nobody_on(paced):
    (await paced.connect()).abort()
    paced.accepting.close()
    paced.accepting.close()
    await paced.accepting.wait_closed()
    paced.listener.close()
    with pytest.raises(OSError):
        await paced.connect()


async def seeded(url):
    """Agents that are enrolled and have polled before."""
    now = datetime.now(UTC)
    rows = [
        {
            "tenant_id": DEFAULT_TENANT,
            "id": agent_id(number),
            "name": f"host{number}",
            "hostname": f"host{number}",
            "os": "linux",
            "status": "Online",
            "last_heartbeat_at": now,
            "registered_at": now,
            "protocol": 1,
            "capabilities": [],
            "boot_id": BOOT,
            "credential_hash": hashlib.sha256(credential(number).encode()).hexdigest(),
        }
        for number in range(AGENTS)
    ]
    database = Database(url)
    async with database.begin("seed") as tx:
        await tx.execute(sa.insert(schema.agents), rows)
    await database.close()


async def leased(url):
    """(agent, step) -> fence of every step that an agent holds, as the database says."""
    steps = schema.steps.c
    database = Database(url)
    async with database.read() as tx:
        rows = await tx.execute(
            sa.select(steps.agent_id, steps.id, steps.fence).where(steps.agent_id != "", steps.status == "leased")
        )
        found = {(row.agent_id, row.id): row.fence for row in rows}
    await database.close()
    return found


async def test_a_lease_outlives_a_control_plane_that_was_away(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        agent = await api.agent()
        body = {"common_name": "shop.example", "target_ids": [await api.target(agent)]}
        await api.made("/api/v1/certificates", body)
        (item,) = await agent.work()
        lease = api.house.ctx.patience.lease
        # nobody heard the agent for longer than its lease; then somebody begins to listen
        api.clock.moment += 3 * lease
        anew = dataclasses.replace(api.house.ctx, began=api.clock.moment)
        api.clock.moment += lease / 2
        assert await flow.free_lapsed(anew) == 0
        beat = {"boot_id": agent.boot_id, "leases": [{"step_id": item["step_id"], "fence": item["fence"]}]}
        answer = await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", beat)
        assert answer.json()["lost"] == []
        api.clock.moment += lease / 2
        assert await flow.free_lapsed(anew) == 0, "it was kept"
        api.clock.moment += lease
        put_back = dataclasses.replace(anew, began=api.clock.moment + 100 * lease)
        assert await flow.free_lapsed(put_back) == 1, "a clock that was wrong as it began holds nothing up"
        (item,) = await agent.work()
        beat["leases"] = [{"step_id": item["step_id"], "fence": item["fence"]}]
        api.clock.moment += 2 * lease
        assert await flow.free_lapsed(anew) == 1, "who listens and hears nothing gives it back"
        answer = await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", beat)
        assert [one["step_id"] for one in answer.json()["lost"]] == [item["step_id"]]


@pytest.mark.timeout(240)
async def test_two_hundred_agents_come_back_and_no_lease_is_lost(tmp_path):
    pace = {"CERTCTL_SERVER_HANDSHAKES_PER_SECOND": "100", "CERTCTL_STEP_LEASE": "300s"}
    with fleet(tmp_path / "fleet", **pace) as town:
        town.start_server()
        town.bootstrap()
        url = f"sqlite:///{town.server_dir}/certctl.db"
        await seeded(url)
        crowd = Crowd(town.api_port, AGENTS, credential, agent_id, trusting(town.ca_path))
        async with living(crowd):
            await crowd.until_there(WAIT)
            for number in range(AT_WORK):
                body = {"name": f"site-{number}", "type": "NGINX", "agent_id": agent_id(number)}
                config = {"cert_path": "/etc/nginx/tls/site.crt", "key_path": "/etc/nginx/tls/site.key"}
                target = await asyncio.to_thread(town.post, "/api/v1/targets", body | {"config": config})
                asked = {"common_name": f"shop-{number}.example", "target_ids": [target["id"]]}
                await asyncio.to_thread(town.post, "/api/v1/certificates", asked)
            await until(lambda: len(crowd.held) == AT_WORK)
            held = {(agent_id(number), step): fence for (number, step), fence in crowd.held.items()}
            assert await leased(url) == held
            # those at work beat every second, and are told how long the server needs for all that wait
            await until(lambda: crowd.spread_told > 0)
            beats = crowd.beats
            for _ in range(2):
                crowd.cut()
                await crowd.until_there(WAIT)
                assert crowd.lost == []
                assert {(agent_id(number), step): fence for (number, step), fence in crowd.held.items()} == held
                assert await leased(url) == held
            assert crowd.beats >= beats + AGENTS
        assert len(crowd.back_after) >= AGENTS
        assert not [why for why in crowd.failures if not why.startswith("ConnectionResetError")], crowd.failures
