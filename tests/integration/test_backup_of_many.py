"""A PostgreSQL with 10,000 certificates, dumped by the CronJob's own script, restored, compared row by row, and served."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from certctl.store.tx import Database
from chart.chart import of, render
from docs.conftest import issue
from peers.fleet import Fleet
from peers.inventory import fill, host

MANY = 10_000
# of every table: how many rows, and one hash over all that they hold, in an order that is theirs alone
TOLD = """
SELECT 'SELECT ' || quote_literal(tablename) || ' AS name, count(*), md5(coalesce(string_agg(md5(t::text), '''' '
    || 'ORDER BY md5(t::text)), '''')) FROM ' || quote_ident(tablename) || ' t'
FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename
"""


def contents(server, database: str) -> dict[str, tuple[int, str]]:
    question = " UNION ALL ".join(server.sql(TOLD, database).splitlines())
    rows = [line.split("|") for line in server.sql(question, database).splitlines()]
    return {name: (int(number), digest) for name, number, digest in rows}


async def seed(url: str) -> None:
    database = Database(url)
    try:
        await fill(database, MANY)
    finally:
        await database.close()


@pytest.mark.timeout(600)
def test_what_is_restored_is_what_was_there_and_is_served(tmp_path, postgres_server):
    # the script speaks of a database called certctl: one test at a time has it in its own cluster
    postgres_server.sql("DROP DATABASE IF EXISTS certctl WITH (FORCE)")
    postgres_server.sql("CREATE DATABASE certctl")
    fleet = Fleet(tmp_path / "fleet", f"postgres://certctl@127.0.0.1:{postgres_server.port}/certctl")
    try:
        fleet.start_server()
        fleet.bootstrap()
        issue(fleet, tmp_path, "real")
        fleet.stop_server()
        asyncio.run(seed(fleet._extra["CERTCTL_DATABASE_URL"]))
        dump = back_up(tmp_path, postgres_server)
        url = postgres_server.new_database()
        restored = url.rpartition("/")[2]
        command = ["pg_restore", "--exit-on-error", "--no-owner", "--no-acl", f"--dbname={restored}", str(dump)]
        subprocess.run(command, env=reach(postgres_server), check=True, capture_output=True, timeout=300)

        before, after = contents(postgres_server, "certctl"), contents(postgres_server, restored)
        assert before == after
        assert before["managed_certificates"][0] == MANY + 2, "and the server's own"
        assert before["certificate_versions"][0] == MANY + 2
        assert before["certificate_names"][0] > 4 * MANY
        assert before["audit_events"][0] > 0

        fleet._extra["CERTCTL_DATABASE_URL"] = url
        fleet.start_server()
        assert fleet.get("/api/v1/certificates?page_size=50")["total"] == MANY + 2
        (found,) = fleet.get(f"/api/v1/certificates?q={host(4711)}")["data"]
        versions = fleet.get(f"/api/v1/certificates/{found['id']}/versions")["data"]
        assert [version["status"] for version in versions] == ["current"]
        assert fleet.get("/api/v1/certificates/real")["status"] == "Active"
        issue(fleet, tmp_path, "next")  # the CA's key came back sealed, and opens
        fleet.stop_server()
    finally:
        fleet.stop()
        postgres_server.sql("DROP DATABASE IF EXISTS certctl WITH (FORCE)")


def reach(server) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "certctl"}


def back_up(tmp_path: Path, server) -> Path:
    """By what the chart mounts, as the chart runs it."""
    manifests = render("backup.enabled=true")
    script = tmp_path / "backup.sh"
    script.write_text(of(manifests, "ConfigMap", "certctl-backup")["data"]["backup.sh"])
    folder = tmp_path / "dumps"
    folder.mkdir()
    environ = reach(server) | {"PGPASSWORD": "unused", "BACKUP_DIR": str(folder), "BACKUP_RETENTION": "2"}
    ended = subprocess.run(
        ["/bin/sh", script],
        env=environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (dump,) = folder.glob("certctl-*.dump")
    return dump
