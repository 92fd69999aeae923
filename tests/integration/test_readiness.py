"""`/ready` means database, schema, leases and signer: each of them broken once, told by its name and by nothing else."""

from __future__ import annotations

import os
import time

import pytest
import sqlalchemy as sa

from certctl.core.secret import Secret
from certctl.doors import readiness
from certctl.pki.seal import Sealer
from certctl.store import migrate, sealed
from certctl.store.schema import ca_keys, installation
from integration.api_house import open_api

OTHER = Sealer(Secret("another key for tests only, of enough length"), b"0123456789abcdef")


@pytest.fixture
async def api(tmp_path, database_url, monkeypatch):
    monkeypatch.setattr(readiness, "_SIGNER_EVERY_SECONDS", 0.0)
    async with open_api(tmp_path, database_url) as opened:
        yield opened


async def told(api, status: int = 503) -> dict[str, str]:
    answer = await api.call("GET", "/ready", key="")
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_one_that_can_work_says_no_more_than_that(api):
    api.state.watch.lease_granted()
    assert await told(api, 200) == {"status": "ready", "db": "connected"}


async def test_leases(api):
    api.state.watch._lease_at = time.monotonic() - readiness._LEASELESS_SECONDS - 1
    assert (await told(api))["failed"] == "leases"
    api.state.watch.lease_granted()
    await told(api, 200)


async def test_the_schema(api):
    async with api.house.database.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await told(api)
    assert (answer["failed"], answer["db"]) == ("schema", "wrong_schema")
    assert migrate.head() not in answer["error"]


async def test_a_config_key_that_was_rotated_meanwhile(api):
    async with api.house.database.begin("test") as tx:
        await sealed.replace_check(tx, api.house.ctx.scope, OTHER.seal(b"certctl", "certctl/installation/check"))
    answer = await told(api)
    assert answer["failed"] == "signer"
    assert "CERTCTL" not in answer["error"]


async def test_a_ca_key_that_does_not_open(api):
    # nothing that was opened before may hide it
    api.house.ctx.keybox._open.clear()
    async with api.house.database.engine.begin() as connection:
        await connection.execute(sa.update(ca_keys).values(sealed=os.urandom(200)))
    answer = await told(api)
    assert answer["failed"] == "signer"
    assert "key-" not in answer["error"], "which key it is stands in the log"


async def test_the_signer_is_looked_at_once_in_a_while_however_often_somebody_asks(api, monkeypatch):
    monkeypatch.setattr(readiness, "_SIGNER_EVERY_SECONDS", 3600.0)
    await told(api, 200)
    async with api.house.database.engine.begin() as connection:
        await connection.execute(sa.delete(installation).where(installation.c.name == sealed.KEY_CHECK))
    await told(api, 200)


async def test_the_database(api, monkeypatch):
    async def silent(_database):
        raise TimeoutError("db1.internal:5432 does not answer")

    monkeypatch.setattr(migrate, "standing", silent)
    answer = await told(api)
    assert (answer["failed"], answer["db"]) == ("database", "unreachable")
    assert "internal" not in answer["error"]
