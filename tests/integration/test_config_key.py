"""`certctl-server rotate-config-key`: all is sealed anew or nothing, also when killed; who has the old key is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from sqlalchemy import LargeBinary

from certctl.pki.seal import key_id_of
from certctl.store.schema import metadata
from peers.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "tests" / "peers" / "server_process.py"
OLD = "a key for tests only, of enough length"
NEW = "another key for tests only, of enough length"
# every column of bytes is one of these, or DER that is public
SEALED = {
    "acme_external_keys.sealed",
    "ca_accounts.sealed",
    "ca_accounts.sealed_next",
    "ca_keys.sealed",
    "idempotency_keys.answer",
    "installation.value",
    "issuers.sealed_config",
    "notification_channels.sealed_config",
}
# hashes of the audit log's seal
PUBLIC = {"audit_blocks.hashes", "audit_heads.root", "audit_leaves.hash", "audit_nodes.hash"}
NEVER_FILLED = {"deployment_targets.sealed_config"}


def rotate(fleet: Fleet, new: str | Path, *more: str, die_at: str = "", old: str | None = None):
    """Run it as an operator does, with the fleet's own environment; `new` is a key or a file of one."""
    path = new if isinstance(new, Path) else fleet.directory / "new.key"
    if isinstance(new, str):
        path.write_text(new + "\n")
        path.chmod(0o600)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    environ |= {"CERTCTL_DATA_DIR": str(fleet.server_dir), "DIE_AT": die_at}
    environ |= {name: value for name, value in fleet._extra.items() if name in {"CERTCTL_DATABASE_URL"}}
    if "CERTCTL_CONFIG_ENCRYPTION_KEY" in fleet._extra:
        environ["CERTCTL_CONFIG_ENCRYPTION_KEY"] = old or OLD
    ended = subprocess.run(
        [sys.executable, str(PEER), "rotate-config-key", "--new-key-file", str(path), *more],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    assert NEW not in ended.stdout + ended.stderr
    assert OLD not in ended.stdout + ended.stderr
    return ended


def issue(fleet: Fleet, name: str, key: str | None = None) -> dict:
    """Ask for a certificate with a key of the client's own; the answer, and what the idempotency key was."""
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", os.devnull, "-subj", f"/CN={name}.example", "-addext", f"subjectAltName=DNS:{name}.example"],
        check=True,
        capture_output=True,
        text=True,
    )
    body = {"id": name, "common_name": f"{name}.example", "csr_pem": made.stdout}
    headers = {"Authorization": f"Bearer {fleet.key}", "Idempotency-Key": key or str(uuid.uuid4())}
    with httpx.Client(base_url=fleet.url, verify=fleet._context(), timeout=20, headers=headers) as client:
        reply = client.post("/api/v1/certificates", json=body)
        assert reply.status_code < 300, reply.text
        again = client.post("/api/v1/certificates", json=body)
    assert again.content == reply.content
    fleet.wait(lambda: fleet.get(f"/api/v1/certificates/{name}")["status"] == "Active", f"{name} is issued")
    return {"body": body, "headers": headers, "answer": reply.content}


def asked_again(fleet: Fleet, kept: dict) -> None:
    """The very call once more: the answer of then."""
    with httpx.Client(base_url=fleet.url, verify=fleet._context(), timeout=20, headers=kept["headers"]) as client:
        reply = client.post("/api/v1/certificates", json=kept["body"])
    assert reply.content == kept["answer"]
    assert reply.headers["Idempotency-Replayed"] == "true"


def external_key(fleet: Fleet, name: str) -> httpx.Response:
    """Ask for a key of an external account (ACME): its secret is sealed."""
    return fleet.call("POST", "/api/v1/acme/external-account-keys", {"name": name, "profile_id": "prof-default"})


def intermediate(fleet: Fleet, name: str) -> httpx.Response:
    return fleet.call(
        "POST", "/api/v1/issuers/iss-local/intermediates", {"name": name, "subject": {"common_name": name}}
    )


@pytest.fixture
def fleet(tmp_path, postgres_server):
    made = Fleet(tmp_path / "fleet", postgres_server.new_database())
    try:
        yield made
    finally:
        made.stop()


def sealed_under(server, url: str) -> dict[str, set[str]]:
    """By column: the ids of the keys that the sealed values name."""
    database = url.rpartition("/")[2]
    found: dict[str, set[str]] = {}
    for column in sorted(SEALED):
        table, name = column.split(".")
        where = "WHERE name = 'config_key_check'" if table == "installation" else f"WHERE {name} IS NOT NULL"
        values = server.sql(f"SELECT encode({name}, 'hex') FROM {table} {where}", database).split()
        found[column] = {key_id_of(bytes.fromhex(value)) for value in values}
    return found


def test_every_column_that_may_hold_something_sealed_is_known():
    named = {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and not column.name.endswith("_der")
    }
    assert named == SEALED | NEVER_FILLED | PUBLIC, (
        "a new sealed column has to be sealed anew by control/config_key.py too"
    )


def test_a_running_fleet_goes_over_to_another_key(fleet, postgres_server):
    url = fleet._extra["CERTCTL_DATABASE_URL"]
    fleet.start_server()
    fleet.bootstrap()
    kept = issue(fleet, "before")
    assert external_key(fleet, "before").status_code == 201
    config = {"directory_url": "https://127.0.0.1:1/dir", "eab_kid": "kid", "eab_hmac": "a2V5"}
    fleet.post("/api/v1/issuers", {"id": "iss-acme", "name": "acme", "type": "ACME", "config": config})
    # its account's key is made before anybody is asked; the address is one that is not dialled
    assert "loopback address" in fleet.call("POST", "/api/v1/issuers/iss-acme/test").text
    channel = {"name": "hook", "type": "Webhook", "config": {"url": "https://hook.example/", "secret": "s3cret"}}
    fleet.post("/api/v1/notification-channels", channel)
    before = sealed_under(postgres_server, url)
    assert before["issuers.sealed_config"]
    assert before["ca_accounts.sealed"]
    (old_id,) = set().union(*before.values())
    # a next key of an account lies there only while its change is under way
    filled = {name for name, ids in before.items() if ids}
    assert filled == SEALED - {"ca_accounts.sealed_next"}, "something lies sealed in every column"

    would = rotate(fleet, NEW, "--dry-run")
    assert would.returncode == 0, would.stderr
    assert "would seal anew" in would.stdout
    assert sealed_under(postgres_server, url) == before
    killed = rotate(fleet, NEW, die_at="commit.config_key.rotate.before")
    assert killed.returncode == -signal.SIGKILL
    fleet.wait(lambda: sealed_under(postgres_server, url) == before, "nothing was done")
    fleet.wait(lambda: fleet.call("GET", "/ready").status_code == 200, "the server is ready as before")

    done = rotate(fleet, NEW)
    assert done.returncode == 0, done.stderr
    after = sealed_under(postgres_server, url)
    (new_id,) = set().union(*after.values())
    assert after.keys() == before.keys()
    assert new_id != old_id
    assert old_id in done.stdout
    assert new_id in done.stdout

    # who has the old key: not ready, signs with what it has opened, writes no key that nobody could open
    # a database that is slow for once is another reason, and passes
    fleet.wait(lambda: fleet.call("GET", "/ready").json().get("failed") == "signer", "the old process is not ready")
    told = fleet.call("GET", "/ready").json()
    assert told["failed"] == "signer"
    assert not {"key", "sealed", "rotated"} & set(json.dumps(told["error"]).split())
    for refused in (intermediate(fleet, "lost"), external_key(fleet, "lost")):
        assert refused.status_code == 502, refused.text
        assert "was rotated" in refused.json()["detail"]
    assert set().union(*sealed_under(postgres_server, url).values()) == {new_id}
    fleet.stop_server()
    assert fleet.spawn_server().wait(60) == 4, "the old key is refused"
    assert "another configuration key" in fleet.log("server")

    fleet._extra["CERTCTL_CONFIG_ENCRYPTION_KEY"] = NEW
    fleet.start_server()
    asked_again(fleet, kept)
    issue(fleet, "after")
    assert "loopback address" in fleet.call("POST", "/api/v1/issuers/iss-acme/test").text, "both secrets open"
    assert intermediate(fleet, "next").status_code == 201
    assert external_key(fleet, "next").status_code == 201
    again = rotate(fleet, NEW)
    assert again.returncode == 0, again.stderr
    assert "already" in again.stdout
    events = postgres_server.sql(
        "SELECT details::text FROM audit_events WHERE type = 'config_key_rotated'", url.rpartition("/")[2]
    )
    assert len(events.splitlines()) == 1
    assert old_id in events


def test_the_embedded_start_whose_own_key_is_replaced_and_the_death_between(tmp_path):
    fleet = Fleet(tmp_path / "fleet")
    try:
        fleet.start_server()
        fleet.bootstrap()
        kept = issue(fleet, "before")
        busy = rotate(fleet, NEW)
        assert busy.returncode == 4, "a server runs on this directory"
        assert "another certctl-server is running" in busy.stderr
        fleet.stop_server()
        path = fleet.server_dir / "config-encryption.key"
        first = path.read_text()
        killed = rotate(fleet, NEW, die_at="config_key.file")
        assert killed.returncode == -signal.SIGKILL
        assert path.read_text() == first, "the database is ahead of the file"
        assert fleet.spawn_server().wait(60) == 4
        done = rotate(fleet, NEW)
        assert done.returncode == 0, done.stderr
        assert path.read_text() == NEW
        assert path.stat().st_mode & 0o777 == 0o600
        fleet.start_server()
        asked_again(fleet, kept)
        issue(fleet, "after")
    finally:
        fleet.stop()


def test_keys_that_will_not_do_and_damaged_values_change_nothing(fleet, postgres_server):
    url = fleet._extra["CERTCTL_DATABASE_URL"]
    fleet.start_server()
    fleet.stop_server()
    path = fleet.directory / "given"
    for text, mode, told in (
        ("short", 0o600, "fewer than 32"),
        (NEW, 0o644, "chmod 600"),
        (OLD, 0o600, "set already"),
        (None, 0, "cannot be read"),
    ):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
            path.chmod(mode)
        ended = rotate(fleet, path)
        assert ended.returncode == 4
        assert told in ended.stderr
    wrong = rotate(fleet, NEW, old="a wrong key for tests only, of enough length")
    assert wrong.returncode == 4
    assert "another configuration key" in wrong.stderr
    before = sealed_under(postgres_server, url)
    postgres_server.sql(
        "UPDATE ca_keys SET sealed = set_byte(sealed, 30, get_byte(sealed, 30) # 1) "
        "WHERE id = (SELECT max(id) FROM ca_keys)",
        url.rpartition("/")[2],
    )
    damaged = rotate(fleet, NEW)
    assert damaged.returncode == 4
    assert "was changed" in damaged.stderr
    assert sealed_under(postgres_server, url) == before
