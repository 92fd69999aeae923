"""Moving over: issuers of a reference installation, their secrets opened with its passphrase and sealed under ours; by the command."""

from __future__ import annotations

import json

import pytest

from certctl.cli import server
from certctl.control.issuer_secrets import open_config
from certctl.control.reference_import import take_over
from certctl.core.actor import SYSTEM
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret
from certctl.store import catalogue
from integration.api_house import open_api
from unit.pki.test_reference_seal import NONCE, PASSPHRASE, SALT, derived, gcm

ACME = {
    "directory_url": "https://ca.example/dir",
    "email": "a@b.example",
    "eab_kid": "kid-1",
    "eab_hmac": "c2VjcmV0LWhtYWM",
}


def sealed(config: object) -> str:
    return "\\x" + (b"\x03" + SALT + gcm(derived(SALT, 600_000), NONCE, json.dumps(config).encode())).hex()


def row(name: str, kind: str, config: object, **more) -> bytes:
    told = {"id": name, "name": name, "type": kind, "config": {"eab_hmac": "********"}, "created_at": "2026-01-01"}
    return json.dumps(told | {"encrypted_config": sealed(config)} | more).encode() + b"\n"


ROWS = [
    row("iss-acme", "ACME", ACME, enabled=False),
    row("iss-vault", "VaultPKI", {"addr": "https://vault.example", "token": "hvs.secret-token"}),
    row("iss-own", "GenericCA", {"ca_cert_path": "/ca.pem", "ca_key_path": "/ca.key"}),
    row("iss-odd", "ACME", {"directory_url": "ftp://ca.example", "eab_hmac": "another-secret"}),
    row("iss-cut", "ACME", ACME, encrypted_config=sealed(ACME)[:-2] + "00"),
    row("iss-env", "ACME", ACME, encrypted_config=None),
    row("tgt-1", "NGINX", {"cert_path": "/x"}, agent_id="ag-1"),
]


async def test_issuers_come_over_with_their_secrets(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as api:
        ctx = api.house.ctx
        with pytest.raises(Misconfigured, match="the passphrase is not the"):
            await take_over(ctx, SYSTEM, ROWS, Secret("another passphrase, of enough length"))
        tried = await take_over(ctx, SYSTEM, ROWS, Secret(PASSPHRASE), dry_run=True)
        assert (await api.call("GET", "/api/v1/issuers/iss-acme")).status_code == 404
        found = await take_over(ctx, SYSTEM, ROWS, Secret(PASSPHRASE))
        assert [one.outcome for one in found] == ["imported", *["refused"] * 6]
        why = {one.id: one.why for one in found}
        assert "VaultPKI" in why["iss-vault"]
        assert "built-in CA" in why["iss-own"]
        assert "directory_url" in why["iss-odd"]
        assert "does not open" in why["iss-cut"]
        assert "no encrypted_config" in why["iss-env"]
        assert "deployment target: not supported" in why["tgt-1"]
        assert "secret" not in str(found) + str(tried)
        shown = await api.get("/api/v1/issuers/iss-acme")
        assert (shown["enabled"], shown["config"]["eab_hmac"]) == (False, "[redacted]")
        async with ctx.database.read() as tx:
            record = await catalogue.get(tx, ctx.scope, IssuerRecord, "iss-acme")
        assert open_config(ctx.sealer, record) == ACME
        again = await take_over(ctx, SYSTEM, ROWS[:1], Secret(PASSPHRASE))
        assert [one.outcome for one in again] == ["there already"]
        for bad in (b"{}", b"nonsense", b"\xff\xfe", b'{"id": 1, "name": "x", "type": "y"}'):
            with pytest.raises(Misconfigured, match="line 2"):
                await take_over(ctx, SYSTEM, [ROWS[0], bad], Secret(PASSPHRASE))


def test_the_command(tmp_path, monkeypatch, capsys):
    rows, key = tmp_path / "issuers.ndjson", tmp_path / "old.key"
    rows.write_bytes(b"".join(ROWS[:2]))
    key.write_text(PASSPHRASE + "\n")
    key.chmod(0o600)
    monkeypatch.setenv("CERTCTL_DATA_DIR", str(tmp_path / "data"))
    asked = ["import-reference", str(rows), "--reference-key-file", str(key)]
    for more in (["--dry-run"], []):
        with pytest.raises(SystemExit) as ended:
            server.main([*asked, *more])
        told = capsys.readouterr()
        assert ended.value.code == 1, told.err
        assert "iss-acme: imported" in told.out or "iss-acme: would be imported" in told.out
        assert "iss-vault: refused: " in told.out
        assert "secret" not in told.out + told.err
    key.chmod(0o644)
    with pytest.raises(SystemExit) as ended:
        server.main(asked)
    assert ended.value.code == 4
    assert "can be read by others" in capsys.readouterr().err
