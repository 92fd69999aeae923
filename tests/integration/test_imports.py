"""Certificates from elsewhere: taken in without a key, watched, claimed, and from then on renewed as ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import subprocess
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509.oid import NameOID

from certctl.control.installation import BUILT_IN_ISSUER
from certctl.lifecycle import renew
from certctl.store import authority
from integration.api_house import hours, open_api

IMPORT = "/api/v1/certificates/import"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


class Elsewhere:
    """A CA that is not ours."""

    def __init__(self, now, name: str = "Elsewhere CA") -> None:
        self.now = now
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self.name, self.key.public_key(), 1, timedelta(days=3650), ca=True)

    def _build(self, subject, public_key, serial, life, *, names=(), ca=False) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(self.now - timedelta(days=1))
            .not_valid_after(self.now - timedelta(days=1) + life)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            sans = [x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def leaf(self, common_name: str, *, serial: int = 7, days: int = 90, key=None, names=None) -> x509.Certificate:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        life, sans = timedelta(days=days), [common_name] if names is None else names
        return self._build(subject, key.public_key(), serial, life, names=sans)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(each.public_bytes(PEM).decode() for each in certificates)


async def bring(api, *items: dict, **more) -> dict:
    return await api.made(IMPORT, {"certificates": list(items)}, 200, **more)


async def test_it_is_watched_and_nothing_more(api):
    there = Elsewhere(api.clock.now())
    leaf = there.leaf("shop.example", names=["shop.example", "www.shop.example"])
    answer = await bring(api, {"pem": pem(there.certificate, leaf), "environment": "old", "tags": {"from": "audit"}})
    assert (answer["total"], answer["total_imported"]) == (1, 1)
    (result,) = answer["results"]
    assert result["fingerprint_sha256"] == leaf.fingerprint(hashes.SHA256()).hex()
    certificate = await api.get(f"/api/v1/certificates/{result['certificate_id']}")
    assert (certificate["source"], certificate["status"], certificate["issuer_id"]) == ("Import", "Active", "")
    assert certificate["sans"] == ["shop.example", "www.shop.example"]
    assert certificate["expires_at"].startswith(leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%S"))
    for wanted in ("www.shop.example", result["fingerprint_sha256"]):
        assert (await api.get(f"/api/v1/certificates?q={wanted}"))["total"] == 1, wanted
    path = f"/api/v1/certificates/{certificate['id']}"
    (version,) = (await api.get(f"{path}/versions"))["data"]
    assert (version["holder_id"], version["status"], version["csr_pem"]) == ("external", "current", "")
    assert (version["serial_number"], version["ca_certificate_id"][:9]) == ("7", "external:")
    exported = await api.get(f"{path}/export/pem")
    assert exported["cert_pem"] == pem(leaf)
    assert (await api.call("POST", f"{path}/export/pkcs12", {"password": "x"})).status_code == 200
    for act, body in (("renew", {}), ("reissue", {}), ("revoke", {}), ("revoke", {"version_id": version["id"]})):
        refused = await api.call("POST", f"{path}/{act}", body)
        assert refused.status_code == 409, (act, refused.text)
    assert (await api.call("PUT", path, {"issuer_id": "iss-local"})).status_code == 409
    assert (await api.call("PUT", path, {"environment": "new"})).status_code == 200
    bulk = await api.made("/api/v1/certificates/bulk-renew", {"source": "import"}, 200, headers={"Prefer": "wait=30"})
    assert (bulk["total_matched"], bulk["total_skipped"]) == (1, 1)
    bulk = await api.made("/api/v1/certificates/bulk-revoke", {"source": "import"}, 200, headers={"Prefer": "wait=30"})
    assert (bulk["total_revoked"], bulk["total_skipped"]) == (0, 1)
    assert (await api.get("/api/v1/jobs"))["total"] == 0
    assert len(await api.events("certificate_imported")) == 1


async def test_time_passes_for_it_as_for_others(api):
    there = Elsewhere(api.clock.now())
    answer = await bring(
        api, {"pem": pem(there.leaf("a.example", days=91))}, {"pem": pem(there.leaf("b.example", days=1, serial=8))}
    )
    soon, late = (each["certificate_id"] for each in answer["results"])
    assert (await api.get(f"/api/v1/certificates/{late}"))["status"] == "Expired"
    for days, status in ((10, "Active"), (60, "Expiring"), (30, "Expired")):
        api.clock.moment += hours(24 * days)
        while await renew.tick(api.house.ctx):
            pass
        assert (await api.get(f"/api/v1/certificates/{soon}"))["status"] == status
    assert (await api.get("/api/v1/jobs"))["total"] == 0, "nobody renews what nobody claimed"


async def test_the_same_bytes_are_one_entry(api):
    there = Elsewhere(api.clock.now())
    leaf, twin = there.leaf("a.example"), Elsewhere(api.clock.now()).leaf("a.example")
    later = {"pem": pem(leaf, there.certificate), "environment": "said later"}
    first = await bring(api, {"pem": pem(leaf), "environment": "said first"}, later, {"pem": pem(twin)})
    assert [each["status"] for each in first["results"]] == ["imported", "known", "imported"]
    assert first["results"][0]["certificate_id"] == first["results"][1]["certificate_id"]
    entry = await api.get(f"/api/v1/certificates/{first['results'][0]['certificate_id']}")
    assert entry["environment"] == "said first"
    names = {row["name"] for row in (await api.get("/api/v1/certificates"))["data"]}
    assert len(names) == 2, "same common name and serial, another CA: another certificate"
    again = await bring(api, {"der": base64.b64encode(leaf.public_bytes(DER)).decode()})
    assert again["total_known"] == 1
    assert (await api.get("/api/v1/certificates"))["total"] == 2


async def test_many_are_few_statements_and_each_fault_is_its_own(api):
    """One commit for all, by arrays when few and by COPY when many; a fault halves them until it stands alone; the same
    call twice at once brings each once.
    """
    there = Elsewhere(api.clock.now())
    key = ec.generate_private_key(ec.SECP256R1())
    good = [{"pem": pem(there.leaf(f"m{number}.example", serial=100 + number, key=key))} for number in range(60)]
    assert (await bring(api, good[0]))["total_imported"] == 1
    with statements(api) as few:
        assert (await bring(api, good[1]))["total_imported"] == 1
    with statements(api) as many:
        assert (await bring(api, *good[2:20]))["total_imported"] == 18
    assert len(many) == len(few), "eighteen cost what one costs"

    bad = {3: {"pem": "hello"}, 8: good[28] | {"owner_id": "o-nobody"}, 15: good[35] | {"name": "m0.example"}}
    items = [bad.get(number, good[20 + number]) for number in range(40)]
    answers = await asyncio.gather(bring(api, *items), bring(api, *reversed(items)))
    for number, item in enumerate(items):
        statuses = {answers[0]["results"][number]["status"], answers[1]["results"][-1 - number]["status"]}
        assert statuses == ({"failed"} if number in bad else {"imported", "known"}), item
    assert (await api.get("/api/v1/certificates"))["total"] == 57
    assert len(await api.events("certificate_imported")) == 57
    found = await api.get("/api/v1/certificates?q=m59.example")
    assert (found["total"], found["data"][0]["sans"]) == (1, ["m59.example"])


@contextlib.contextmanager
def statements(api):
    """Every statement about certificates sent within the block: who calls may be looked up again meanwhile."""
    said: list[str] = []

    def note(_connection, _cursor, statement, *_more):
        if "certificate" in statement:
            said.append(statement)

    engine = api.house.database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def test_every_form(api):
    there = Elsewhere(api.clock.now())
    leaves = [there.leaf(f"f{number}.example", serial=10 + number) for number in range(4)]
    sets = [[leaf, there.certificate] for leaf in leaves]
    answer = await bring(
        api,
        {"pem": pkcs7.serialize_certificates(sets[0], PEM).decode()},
        {"der": base64.b64encode(pkcs7.serialize_certificates(sets[1], DER)).decode()},
        {"der": base64.b64encode(leaves[2].public_bytes(DER)).decode()},
        {"pem": "some text\n" + pem(*sets[3][::-1])},
    )
    assert answer["total_imported"] == 4, answer
    for row in (await api.get("/api/v1/certificates"))["data"]:
        version = (await api.get(f"/api/v1/certificates/{row['id']}/versions"))["data"][0]
        assert version["pem_chain"].count("BEGIN CERTIFICATE") == 1, "the root is not part of a chain"


def secrets() -> dict[str, dict]:
    key = ec.generate_private_key(ec.SECP256R1())
    plain, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"secret")
    old = serialization.PrivateFormat.TraditionalOpenSSL
    store = pkcs12.serialize_key_and_certificates(b"x", key, None, None, locked)
    open_store = pkcs12.serialize_key_and_certificates(b"x", key, None, None, none)
    wide = rsa.generate_private_key(65537, 2048)

    def b64(data: bytes) -> str:
        return base64.b64encode(data).decode()

    disguised = f"-----BEGIN CERTIFICATE-----\n{b64(key.private_bytes(DER, plain, none))}\n-----END CERTIFICATE-----\n"
    return {
        "pkcs8 pem": {"pem": key.private_bytes(PEM, plain, none).decode()},
        "sec1 pem": {"pem": key.private_bytes(PEM, old, none).decode()},
        "rsa pem": {"pem": wide.private_bytes(PEM, old, none).decode()},
        "encrypted pem": {"pem": key.private_bytes(PEM, plain, locked).decode()},
        "pkcs8 der": {"der": b64(key.private_bytes(DER, plain, none))},
        "sec1 der": {"der": b64(key.private_bytes(DER, old, none))},
        "encrypted der": {"der": b64(key.private_bytes(DER, plain, locked))},
        "pkcs12": {"der": b64(store)},
        "open pkcs12": {"der": b64(open_store)},
        "in disguise": {"pem": disguised},
        "in a tag": {"pem": "", "tags": {"note": "-----BEGIN EC PRIVATE KEY-----"}},
        "openssh": {"pem": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"},
    }


async def test_a_private_key_anywhere_refuses_everything_and_is_not_repeated(api, capsys):
    leaf = {"pem": pem(Elsewhere(api.clock.now()).leaf("a.example"))}
    for what, secret in secrets().items():
        with_leaf = {"pem": leaf["pem"] + secret["pem"]} if secret.get("pem") else secret
        for item in (secret, with_leaf):
            answer = await api.call("POST", IMPORT, {"certificates": [leaf, item]})
            assert answer.status_code == 400, what
            (violation,) = answer.json()["violations"]
            assert (violation["rule"], violation["field"]) == ("private_key_in_body", "certificates[1]"), what
            lines = [
                line
                for line in (item.get("pem") or item.get("der") or "").splitlines()
                if len(line) > 20 and "-" not in line
            ]
            told = answer.text + capsys.readouterr().out
            own = set(lines) - set(leaf["pem"].splitlines())
            assert not [line for line in own if line[:40] in told], what
    assert (await api.get("/api/v1/certificates"))["total"] == 0


async def test_what_is_no_certificate(api):
    there, other = Elsewhere(api.clock.now()), Elsewhere(api.clock.now(), "Other CA")
    a, b, stray = there.leaf("a.example"), there.leaf("b.example", serial=8), other.leaf("c.example")
    for item, status in (
        ({}, 400),
        ({"pem": "hello"}, 400),
        ({"pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, 400),
        ({"der": "!!!"}, 400),
        ({"der": base64.b64encode(b"0" * 50).decode()}, 400),
        ({"pem": pem(a), "der": base64.b64encode(a.public_bytes(DER)).decode()}, 400),
        ({"pem": pem(a, b)}, 400),
        ({"pem": pem(a, stray)}, 400),
        ({"pem": pem(a), "owner_id": "o-nobody"}, 400),
        ({"pem": pem(a), "colour": "red"}, 400),
        ({"pem": pem(a) + "x" * 70000}, 400),
    ):
        answer = await api.call("POST", IMPORT, {"certificates": [item]})
        assert answer.status_code == status, (sorted(item), len(str(item)), answer.text)
    assert (await api.call("POST", IMPORT, {"certificates": []})).status_code == 400
    assert (await api.call("POST", IMPORT, {})).status_code == 400
    some = await bring(api, {"pem": "hello"}, {"pem": pem(a)}, {"pem": pem(b), "name": "a.example"})
    assert [each["status"] for each in some["results"]] == ["failed", "imported", "failed"]
    odd = there.leaf("Ünïcode \u202e name", serial=99, names=[])
    (row,) = (await bring(api, {"pem": pem(odd)}))["results"]
    assert "?" in (await api.get(f"/api/v1/certificates/{row['certificate_id']}"))["common_name"]


async def test_claimed_it_is_ours(api):
    agent = await api.agent()
    target = await api.target(agent)
    await api.made("/api/v1/teams", {"id": "red", "name": "red"})
    leaf = Elsewhere(api.clock.now()).leaf("shop.example")
    (row,) = (await bring(api, {"pem": pem(leaf)}))["results"]
    path = f"/api/v1/certificates/{row['certificate_id']}"
    assert (await api.call("POST", f"{path}/claim", {"issuer_id": "iss-none"})).status_code == 400
    claimed = await api.made(f"{path}/claim", {"team_id": "red", "target_ids": [target]}, 200)
    assert (claimed["team_id"], claimed["issuer_id"], claimed["source"]) == ("red", "iss-local", "Import")
    assert (await api.call("POST", f"{path}/claim", {})).status_code == 409
    assert await agent.serve() == ["prepare", "deploy", "verify"]
    old, new = (await api.get(f"{path}/versions"))["data"][::-1]
    assert (old["holder_id"], old["status"]) == ("external", "superseded")
    assert (new["holder_id"], new["status"], new["issuer_id"]) == (agent.id, "current", "iss-local")
    assert (await api.get(path))["status"] == "Active"
    assert (await api.call("POST", f"{path}/versions/{old['id']}/rollback")).status_code == 409
    assert (await api.made(f"{path}/revoke", {}, 200))["status"] == "revoked"
    states = [each["status"] for each in (await api.get(f"{path}/versions"))["data"]]
    assert states == ["revoked", "superseded"], "what we did not issue we do not call revoked"
    assert (await api.get(path))["status"] == "Revoked"
    assert len(await api.events("certificate_claimed")) == 1


async def test_claimed_without_a_target_it_is_never_renewed_by_itself(api):
    leaf = Elsewhere(api.clock.now()).leaf("shop.example", days=91)
    (row,) = (await bring(api, {"pem": pem(leaf)}))["results"]
    await api.made(f"/api/v1/certificates/{row['certificate_id']}/claim", {}, 200)
    api.clock.moment += hours(24 * 80)
    while await renew.tick(api.house.ctx):
        pass
    assert (await api.get("/api/v1/jobs"))["total"] == 0
    assert (await api.get(f"/api/v1/certificates/{row['certificate_id']}"))["status"] == "Expiring"


async def test_names_that_certctl_does_not_issue_are_mended_by_the_claim(api):
    odd = Elsewhere(api.clock.now()).leaf("My old server", names=[])
    (row,) = (await bring(api, {"pem": pem(odd)}))["results"]
    path = f"/api/v1/certificates/{row['certificate_id']}/claim"
    assert (await api.call("POST", path, {})).status_code == 400
    assert (await api.made(path, {"common_name": "old.example"}, 200))["sans"] == ["old.example"]


async def test_our_ocsp_and_crl_know_nothing_of_it(api):
    ctx = api.house.ctx
    (row,) = (await bring(api, {"pem": pem(Elsewhere(api.clock.now()).leaf("a.example", serial=0xABCDEF))}))["results"]
    assert row["status"] == "imported"
    async with ctx.database.read() as tx:
        for ca in await authority.ca_certificates_of(tx, ctx.scope, BUILT_IN_ISSUER):
            assert await authority.serial_facts(tx, ctx.scope, ca.issuer_id, ca.id, ["abcdef"]) == []
        assert await authority.serial_facts(tx, ctx.scope, BUILT_IN_ISSUER, "", ["abcdef"]) == []


async def test_scope_and_permissions(api):
    for name in ("red", "blue"):
        await api.made("/api/v1/teams", {"id": name, "name": name})
    red, blue = await api.key("r-admin", teams=["red"]), await api.key("r-admin", teams=["blue"])
    leaf = {"pem": pem(Elsewhere(api.clock.now()).leaf("a.example"))}
    for item in (leaf, leaf | {"team_id": "blue"}):
        assert (await api.call("POST", IMPORT, {"certificates": [item]}, key=red)).status_code == 400
    (row,) = (await bring(api, leaf | {"team_id": "red"}, key=red))["results"]
    path = f"/api/v1/certificates/{row['certificate_id']}"
    taken = await api.call("POST", IMPORT, {"certificates": [leaf | {"team_id": "blue"}]}, key=blue)
    assert taken.status_code == 409
    assert row["certificate_id"] not in taken.text
    assert (await api.call("POST", f"{path}/claim", {}, key=blue)).status_code == 404
    assert (await api.call("POST", f"{path}/claim", {"team_id": "blue"}, key=red)).status_code == 403
    viewer = await api.key("r-viewer")
    assert (await api.call("POST", IMPORT, {"certificates": [leaf]}, key=viewer)).status_code == 403
    assert (await api.call("POST", f"{path}/claim", {}, key=viewer)).status_code == 403


async def test_openssl_makes_bundles_that_are_read(api, tmp_path):
    there = Elsewhere(api.clock.now())
    (tmp_path / "chain.pem").write_text(pem(there.leaf("o.example"), there.certificate))
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(tmp_path / "chain.pem")]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert (await bring(api, {"pem": text}))["total_imported"] == 1


# -- reissue ---------------------------------------------------------------------------------------------------------


async def served(api) -> tuple:
    agent = await api.agent()
    targets = [await api.target(agent, name) for name in ("one", "two")]
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": "a.example", "target_ids": targets})
    await agent.serve()
    (old,) = (await api.get("/api/v1/certificates/mc-a/versions"))["data"]
    return agent, old


async def state_of(api, version: dict) -> str:
    return (await api.get(f"/api/v1/certificates/mc-a/versions/{version['id']}"))["status"]


async def drive(api) -> None:
    from certctl.lifecycle import flow

    while claimed := await flow.claim(api.house.ctx, 20):
        await flow.run_claimed(api.house.ctx, claimed)


async def test_the_old_version_is_revoked_once_the_new_one_is_seen_everywhere(api):
    agent, old = await served(api)
    body = {"revoke_old": True, "reason": "keyCompromise"}
    answer = await api.made("/api/v1/certificates/mc-a/reissue", body, 202)
    assert (answer["status"], len(answer["job_ids"])) == ("reissue_triggered", 1)
    done = []
    while items := await agent.work():
        for item in items[:1]:
            await {"prepare": agent.csr, "deploy": agent.deploy, "verify": agent.verify}[item["step_kind"]](item)
            done.append(item["step_kind"])
            await drive(api)
            if done.count("verify") < 2:
                assert await state_of(api, old) == "superseded" if "prepare" in done else "current", done
        agent.boot_id += "x"  # what else was leased is handed out again
    assert done.count("verify") == 2
    assert await state_of(api, old) == "revoked"
    now = await api.get("/api/v1/certificates/mc-a")
    assert (now["status"], now.get("revocation_reason", "")) == ("Active", "")
    (told,) = await api.events("certificate_revoked")
    assert (told["actor"], told["details"]["reason"]) == ("admin", "keyCompromise")
    (job,) = (await api.get("/api/v1/jobs?type=revocation"))["data"]
    assert (job["status"], job["version_id"]) == ("Completed", old["id"])


async def test_reissue_keeps_the_old_version_unless_told(api):
    agent, old = await served(api)
    await api.made("/api/v1/certificates/mc-a/reissue", None, 202)
    await agent.serve()
    await drive(api)
    assert await state_of(api, old) == "superseded"
    assert (await api.call("POST", "/api/v1/certificates/mc-a/reissue", {"reason": "because"})).status_code == 400
    operator = await api.key("r-mcp")
    assert (
        await api.call("POST", "/api/v1/certificates/mc-a/reissue", {"revoke_old": True}, key=operator)
    ).status_code == 202
    assert (await api.call("POST", "/api/v1/certificates/mc-a/reissue", {"revoke_old": True})).status_code == 409
    viewer = await api.key("r-viewer")
    assert (await api.call("POST", "/api/v1/certificates/mc-a/reissue", key=viewer)).status_code == 403


async def test_what_was_put_back_is_not_revoked(api):
    agent, old = await served(api)
    await api.made("/api/v1/certificates/mc-a/reissue", {"revoke_old": True}, 202)
    await agent.serve()
    # before the revocation ran somebody puts the old version back
    await api.made(f"/api/v1/certificates/mc-a/versions/{old['id']}/rollback", None, 202)
    await drive(api)
    assert await state_of(api, old) == "superseded"
    (job,) = (await api.get("/api/v1/jobs?type=revocation"))["data"]
    assert (job["status"], "in use again" in job["last_error"]) == ("Completed", True)
    await agent.serve()
    assert await state_of(api, old) == "current"
