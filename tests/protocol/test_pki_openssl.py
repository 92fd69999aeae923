"""CRL and OCSP as the OpenSSL CLI sees them, over real HTTP."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from certctl.authority.ocsp import SerialStatus
from certctl.pki.algorithms import KeyAlgorithm
from protocol.pki_server import (
    GOOD_SERIALS,
    REVOKED_SERIAL,
    UNKNOWN_SERIAL,
    make_facts,
    openssl,
    serve,
    write_files,
)

pytestmark = pytest.mark.real

ALGORITHMS = [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_openssl_verifies_the_crl_and_a_chain_against_it(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    facts = await make_facts(algorithm)
    leaves = await write_files(facts, tmp_path)
    async with serve(facts) as base, httpx.AsyncClient(trust_env=False) as http:
        for name in ("ca-int", "ca-root"):
            (tmp_path / f"{name}.crl").write_bytes((await http.get(f"{base}/crl/{name}")).raise_for_status().content)
    code, said = await openssl(
        "crl",
        "-inform",
        "DER",
        "-in",
        tmp_path / "ca-int.crl",
        "-verify",
        "-CAfile",
        tmp_path / "bundle.pem",
        "-noout",
        "-text",
    )
    assert code == 0
    assert "verify OK" in said
    assert "Version 2 (0x1)" in said
    assert "Key Compromise" in said
    assert f"{REVOKED_SERIAL:X}" in said
    code, said = await openssl(
        "crl", "-inform", "DER", "-in", tmp_path / "ca-int.crl", "-verify", "-CAfile", tmp_path / "root.pem", "-noout"
    )
    assert "verify OK" not in said

    crls = b""
    for name in ("ca-int", "ca-root"):
        code, said = await openssl("crl", "-inform", "DER", "-in", tmp_path / f"{name}.crl")
        crls += said.encode()
    (tmp_path / "crls.pem").write_bytes(crls)
    check = (
        "verify",
        "-crl_check_all",
        "-CAfile",
        tmp_path / "root.pem",
        "-untrusted",
        tmp_path / "int.pem",
        "-CRLfile",
        tmp_path / "crls.pem",
    )
    for serial in GOOD_SERIALS:
        assert (await openssl(*check, leaves[serial]))[0] == 0
    code, said = await openssl(*check, leaves[REVOKED_SERIAL])
    assert code != 0
    assert "certificate revoked" in said


@pytest.mark.parametrize("is_delegated", [True, False], ids=["delegated", "ca itself"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_openssl_asks_by_post(algorithm: KeyAlgorithm, is_delegated: bool, tmp_path: Path) -> None:
    facts = await make_facts(algorithm, is_delegated=is_delegated)
    leaves = await write_files(facts, tmp_path)
    expected = {GOOD_SERIALS[0]: "good", REVOKED_SERIAL: "revoked", UNKNOWN_SERIAL: "unknown"}
    if algorithm is KeyAlgorithm.ECDSA_P256:
        expected |= dict.fromkeys(GOOD_SERIALS, "good")
    async with serve(facts) as base:
        ask = (
            "ocsp",
            "-issuer",
            tmp_path / "int.pem",
            "-url",
            f"{base}/ocsp/ca-int",
            "-CAfile",
            tmp_path / "bundle.pem",
        )
        for serial, status in expected.items():
            for options in (("-nonce",), ("-no_nonce",)):
                code, said = await openssl(*ask, *options, "-cert", leaves[serial])
                assert code == 0, said
                assert "Response verify OK" in said
                assert f"leaf-{serial:x}.pem: {status}" in said
                assert "WARNING" not in said, said
                if status == "revoked":
                    assert "Reason: keyCompromise" in said


async def test_openssl_asks_about_many_at_once_with_either_hash(tmp_path: Path) -> None:
    facts = await make_facts(KeyAlgorithm.ECDSA_P256)
    leaves = await write_files(facts, tmp_path)
    async with serve(facts) as base:
        ask = (
            "ocsp",
            "-issuer",
            tmp_path / "int.pem",
            "-url",
            f"{base}/ocsp/iss-local",
            "-CAfile",
            tmp_path / "bundle.pem",
        )
        for digest in ("-sha1", "-sha256"):
            arguments = [part for path in leaves.values() for part in (digest, "-cert", path)]
            code, said = await openssl(*ask, *arguments)
            assert code == 0, said
            assert "Response verify OK" in said
            for serial in GOOD_SERIALS:
                assert f"leaf-{serial:x}.pem: good" in said
            assert f"leaf-{REVOKED_SERIAL:x}.pem: revoked" in said
            assert f"leaf-{UNKNOWN_SERIAL:x}.pem: unknown" in said


async def test_revocation_is_seen_at_once_and_another_trust_anchor_refuses(tmp_path: Path) -> None:
    facts = await make_facts(KeyAlgorithm.ECDSA_P256)
    leaves = await write_files(facts, tmp_path)
    serial = GOOD_SERIALS[1]
    stranger = await make_facts(KeyAlgorithm.ECDSA_P256)
    (tmp_path / "other").mkdir()
    await write_files(stranger, tmp_path / "other")
    async with serve(facts) as base:
        ask = ("ocsp", "-issuer", tmp_path / "int.pem", "-url", f"{base}/ocsp/ca-int", "-cert", leaves[serial])
        assert "good" in (await openssl(*ask, "-CAfile", tmp_path / "bundle.pem"))[1]
        facts.issued[serial] = SerialStatus.revoked(facts.issued[REVOKED_SERIAL].revoked_at, "superseded")
        assert "Reason: superseded" in (await openssl(*ask, "-CAfile", tmp_path / "bundle.pem"))[1]
        assert "Response Verify Failure" in (await openssl(*ask, "-CAfile", tmp_path / "other" / "bundle.pem"))[1]


@pytest.mark.parametrize("with_nonce", [True, False])
async def test_openssl_accepts_what_get_answers(with_nonce: bool, tmp_path: Path) -> None:
    facts = await make_facts(KeyAlgorithm.ECDSA_P256)
    leaves = await write_files(facts, tmp_path)
    about = ("ocsp", "-issuer", tmp_path / "int.pem", "-nonce" if with_nonce else "-no_nonce")
    async with serve(facts) as base, httpx.AsyncClient(trust_env=False) as http:
        for serial, status in ((GOOD_SERIALS[0], "good"), (REVOKED_SERIAL, "revoked"), (UNKNOWN_SERIAL, "unknown")):
            request, response = tmp_path / "request.der", tmp_path / "response.der"
            await openssl(*about, "-cert", leaves[serial], "-reqout", request)
            text = base64.b64encode(request.read_bytes()).decode()
            escaped = await http.get(f"{base}/ocsp/ca-int/{quote(text, safe='')}")
            bare = await http.get(f"{base}/ocsp/ca-int/{text}")
            for got in (escaped, bare):
                assert got.status_code == 200
                assert got.headers["content-type"] == "application/ocsp-response"
                assert ("no-store" in got.headers["cache-control"]) is with_nonce
                response.write_bytes(got.content)
                code, said = await openssl(
                    "ocsp",
                    "-issuer",
                    tmp_path / "int.pem",
                    "-cert",
                    leaves[serial],
                    # Without this the CLI would put a nonce of its own into the request that was sent.
                    "-no_nonce",
                    "-reqin",
                    request,
                    "-respin",
                    response,
                    "-CAfile",
                    tmp_path / "bundle.pem",
                )
                assert code == 0
                assert "Response verify OK" in said
                assert "WARNING" not in said
                assert f": {status}" in said


async def test_the_serial_form_of_the_reference_product(tmp_path: Path) -> None:
    facts = await make_facts(KeyAlgorithm.ECDSA_P256)
    leaves = await write_files(facts, tmp_path)
    async with serve(facts) as base, httpx.AsyncClient(trust_env=False) as http:
        for serial, status in (
            *((one, "good") for one in GOOD_SERIALS),
            (REVOKED_SERIAL, "revoked"),
            (0xDEAD, "unknown"),
        ):
            for text in (f"{serial:x}", f"{serial:040X}"):
                got = await http.get(f"{base}/ocsp/ca-int/{text}")
                (tmp_path / "response.der").write_bytes(got.content)
                code, said = await openssl(
                    "ocsp",
                    "-issuer",
                    tmp_path / "int.pem",
                    "-sha256",
                    "-cert",
                    leaves[serial],
                    "-no_nonce",
                    "-respin",
                    tmp_path / "response.der",
                    "-CAfile",
                    tmp_path / "bundle.pem",
                )
                assert code == 0
                assert f": {status}" in said
                assert "Response verify OK" in said


async def test_openssl_reads_the_ca_certificate(tmp_path: Path) -> None:
    facts = await make_facts(KeyAlgorithm.ECDSA_P384)
    await write_files(facts, tmp_path)
    async with serve(facts) as base, httpx.AsyncClient(trust_env=False) as http:
        (tmp_path / "got.der").write_bytes((await http.get(f"{base}/certs/ca-int")).content)
    await openssl("x509", "-inform", "DER", "-in", tmp_path / "got.der", "-out", tmp_path / "got.pem")
    code, said = await openssl("verify", "-CAfile", tmp_path / "root.pem", tmp_path / "got.pem")
    assert code == 0, said
