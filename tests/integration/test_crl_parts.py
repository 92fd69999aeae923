"""Shards and deltas of a CRL (RFC 5280 5.2.4 to 5.2.6) as OpenSSL judges by them, on both databases."""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from certctl.core.names import parse_names
from certctl.lifecycle import publish
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.store import authority
from integration.api_house import open_api

ISSUER = "/api/v1/issuers/iss-local"
REMOVE = x509.ReasonFlags.remove_from_crl


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def csr(name):
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, name, parse_names([name])))


async def configure(api, status=200, **config):
    answer = await api.call("PUT", ISSUER, {"config": config})
    assert answer.status_code == status, answer.text
    return answer.json()


async def issue(api, name, **more):
    """A certificate: id and leaf."""
    made = await api.made(
        "/api/v1/certificates", {"id": name, "common_name": f"{name}.example", "csr_pem": csr(f"{name}.example")} | more
    )
    assert made["status"] == "Active"
    return await leaf_of(api, name)


async def leaf_of(api, name):
    (version,) = (await api.get(f"/api/v1/certificates/{name}/versions"))["data"]
    return x509.load_pem_x509_certificate(version["pem_chain"].encode())


async def revoke(api, name):
    await api.made(f"/api/v1/certificates/{name}/revoke", {"reason": "superseded"}, 200)


def point_of(leaf):
    (point,) = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return point.full_name[0].value


async def ca_of(api):
    async with api.house.database.read() as tx:
        (ca,) = await authority.signing_cas(tx, api.house.ctx.scope)
    return ca.id


def read(document):
    return x509.load_der_x509_crl(document.der)


def serials(document):
    return {entry.serial_number for entry in read(document)}


async def pem_chain(api, folder):
    """root.pem and ca.pem."""
    async with api.house.database.read() as tx:
        known = await authority.ca_certificates_of(tx, api.house.ctx.scope, "iss-local")
    for one in known:
        name = "root.pem" if one.kind == "root" else "ca.pem"
        (folder / name).write_text(ssl.DER_cert_to_PEM_cert(one.certificate_der))


def judged(api, folder, leaf, *crls, deltas=False):
    """What `openssl verify` says of a leaf by these CRLs."""
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    at = str(int(api.clock.now().timestamp()) + 1)
    command = [
        "openssl",
        "verify",
        "-crl_check",
        "-extended_crl",
        "-attime",
        at,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "ca.pem",
    ]
    for number, one in enumerate(crls):
        (folder / f"{number}.crl").write_bytes(read(one).public_bytes(Encoding.PEM))
        command += ["-CRLfile", f"{number}.crl"]
    command += ["-use_deltas"] if deltas else []
    done = subprocess.run([*command, "leaf.pem"], capture_output=True, text=True, timeout=60, cwd=folder, check=False)
    said = done.stdout + done.stderr
    return "OK" if done.returncode == 0 else re.search(r"lookup: ([^\n]+)", said)[1]


async def test_each_certificate_is_told_by_the_shard_that_it_names_and_by_the_full_crl(api, tmp_path):
    ca_id, facts = await ca_of(api), LifecycleFacts(api.house.ctx)
    before = await issue(api, "before")
    await configure(api, crl_shards=4)
    leaves = {f"n{number}": await issue(api, f"n{number}") for number in range(6)}
    assert point_of(before) == api.house.ctx.addresses.crl(ca_id)
    shard_of = {name: int(point_of(leaf).rpartition("/")[2]) for name, leaf in leaves.items()}
    assert shard_of == {name: leaf.serial_number % 4 + 1 for name, leaf in leaves.items()}
    await configure(api, crl_shards=5)  # what was issued keeps its shard
    refused = await configure(api, 400, crl_shards=2)
    assert "4" in refused["message"] or "5" in refused["message"]
    await configure(api, 400)

    revoked = ["before", "n0", "n1", "n2"]
    for name in revoked:
        await revoke(api, name)
    whole = await facts.crl("iss-local")
    assert serials(whole) == {before.serial_number, *(leaves[name].serial_number for name in revoked[1:])}
    assert ExtensionOID.ISSUING_DISTRIBUTION_POINT not in {one.oid for one in read(whole).extensions}
    await pem_chain(api, tmp_path)
    for name, leaf in leaves.items():
        shard = await facts.crl_part(ca_id, shard_of[name], is_delta=False)
        told = read(shard).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert told.critical
        assert told.value.full_name[0].value == point_of(leaf)
        assert serials(shard) == {
            leaves[other].serial_number for other in revoked[1:] if shard_of[other] == shard_of[name]
        }
        verdict = "certificate revoked" if name in revoked else "OK"
        assert judged(api, tmp_path, leaf, shard) == verdict
        assert judged(api, tmp_path, leaf, whole) == verdict, "old clients are served a full one"
        other = await facts.crl_part(ca_id, shard_of[name] % 4 + 1, is_delta=False)
        assert judged(api, tmp_path, leaf, other) not in {"OK", "certificate revoked"}, (
            "another shard says nothing of it"
        )
    assert await facts.crl_part(ca_id, 6, is_delta=False) is None
    assert await facts.crl_part(ca_id, 1, is_delta=True) is None, "nobody has asked for deltas"
    await issue(api, "late")
    await revoke(api, "late")
    await judge_overview(api, ca_id, whole, set(shard_of.values()))
    again = await facts.crl_part(ca_id, 1, is_delta=False)
    assert again is await facts.crl_part("iss-local", 1, is_delta=False), "given from memory until anything changes"


async def judge_overview(api, ca_id, whole, shards):
    """What operators are shown: one revocation is not told yet, which the next CRL tells."""
    shown = await api.get("/api/v1/admin/crl/cache")
    assert shown["row_count"] == len(shown["cache_rows"]) == 2
    (row,) = (one for one in shown["cache_rows"] if one["ca_certificate_id"] == ca_id)
    assert (row["issuer_id"], row["crl_number"], row["revoked_count"]) == ("iss-local", whole.number, 4)
    assert (row["pending"], row["is_stale"], row["shards"], row["deltas"]) == (1, True, 5, False)
    assert {one["shard"] for one in row["parts"]} >= shards
    assert row["recent_events"][0]["crl_number"] == whole.number
    assert row["generation_duration_ms"] == row["recent_events"][0]["duration_ms"]
    await publish.list_revoked(api.house.ctx)
    shown = await api.get("/api/v1/admin/crl/cache")
    (row,) = (one for one in shown["cache_rows"] if one["ca_certificate_id"] == ca_id)
    assert (row["pending"], row["is_stale"], row["revoked_count"]) == (0, False, 5)


async def test_a_delta_tells_what_has_changed_since_its_base(api, tmp_path):
    await configure(api, crl_deltas=True)
    ctx, ca_id, facts = api.house.ctx, await ca_of(api), LifecycleFacts(api.house.ctx)
    first = await issue(api, "first")
    second = await issue(api, "second")
    third = await issue(api, "third")
    await revoke(api, "first")
    base = await facts.crl(ca_id)
    (freshest,) = read(base).extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest.full_name[0].value == f"{ctx.addresses.crl(ca_id)}/delta"
    await revoke(api, "second")
    delta = await facts.crl_part(ca_id, 0, is_delta=True)
    indicator = read(delta).extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert (indicator.critical, indicator.value.crl_number) == (True, base.number)
    assert delta.number > base.number
    assert serials(delta) == {second.serial_number}
    await pem_chain(api, tmp_path)
    assert judged(api, tmp_path, second, base) == "OK", "the full one of before knows nothing of it"
    assert judged(api, tmp_path, second, base, delta, deltas=True) == "certificate revoked"
    assert judged(api, tmp_path, first, base, delta, deltas=True) == "certificate revoked"
    assert judged(api, tmp_path, third, base, delta, deltas=True) == "OK"
    fresh = await facts.crl(ca_id)
    assert serials(fresh) == {first.serial_number, second.serial_number}
    await revoke(api, "third")
    later = await facts.crl_part(ca_id, 0, is_delta=True)
    assert serials(later) >= {second.serial_number, third.serial_number}, "of use to whoever has the old full one still"
    for full in (base, fresh):
        assert judged(api, tmp_path, third, full, later, deltas=True) == "certificate revoked"


async def test_a_delta_takes_off_what_has_ended(api):
    """RFC 5280 5.3.1: removeFromCRL, so that full and delta together say what the full one of that number says."""
    await configure(api, crl_shards=2, crl_deltas=True)
    ctx, ca_id, facts = api.house.ctx, await ca_of(api), LifecycleFacts(api.house.ctx)
    short = await issue(api, "short", validity_seconds=86400)
    await revoke(api, "short")
    shard = short.serial_number % 2 + 1
    day_after = short.not_valid_after_utc.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    api.clock.moment = day_after + timedelta(hours=23)
    bases = {0: await facts.crl(ca_id), shard: await facts.crl_part(ca_id, shard, is_delta=False)}
    api.clock.moment = day_after + timedelta(hours=25)
    for number, base in bases.items():
        assert serials(base) == {short.serial_number}
        delta = read(await facts.crl_part(ca_id, number, is_delta=True))
        assert delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number == base.number
        (entry,) = delta
        assert entry.serial_number == short.serial_number
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is REMOVE
    await publish.make_next_crl(ctx, ca_id)
    assert serials(await facts.crl(ca_id)) == set()
