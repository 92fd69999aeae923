"""Root, intermediate and OCSP responder: what they say, and what OpenSSL says of them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certctl.authority.hierarchy import make_intermediate, make_ocsp_responder, make_root
from certctl.authority.signer import IssuingCA
from certctl.core.errors import Misconfigured
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import extension_of, load_certificate, read_certificate
from certctl.pki.ekus import OCSP_SIGNING
from certctl.pki.pem import certificate_pem
from made_ca import ADDRESSES, NOW, make_ca


def openssl_verify(folder: Path, root: bytes, chain: tuple[bytes, ...], leaf: bytes, *options: str) -> str:
    (folder / "root.pem").write_text(certificate_pem(root))
    (folder / "int.pem").write_text("".join(certificate_pem(der) for der in chain))
    (folder / "leaf.pem").write_text(certificate_pem(leaf))
    at = str(int((NOW + timedelta(hours=1)).timestamp()))
    untrusted = ("-untrusted", "int.pem") if chain else ()
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-attime",
        at,
        *options,
        "-CAfile",
        "root.pem",
        *untrusted,
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_openssl_accepts_root_intermediate_and_responder(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    made = await make_ca(algorithm)
    key = await made.key(KeyAlgorithm.ECDSA_P256, "k-ocsp")
    responder = await make_ocsp_responder(made.issuing, key, made.signer, NOW, timedelta(days=14))
    root, intermediate = made.root.certificate_der, made.issuing.certificate_der
    assert openssl_verify(tmp_path, root, (), root) == "leaf.pem: OK\n"
    assert openssl_verify(tmp_path, root, (), intermediate) == "leaf.pem: OK\n"
    assert openssl_verify(tmp_path, root, (intermediate,), responder, "-purpose", "ocsphelper") == "leaf.pem: OK\n"


async def test_what_the_certificates_say() -> None:
    made = await make_ca()
    root, intermediate = read_certificate(made.root.certificate_der), read_certificate(made.issuing.certificate_der)
    assert root.is_ca and root.path_length is None and root.is_self_issued
    assert intermediate.is_ca and intermediate.path_length == 0
    assert intermediate.authority_key_identifier == root.subject_key_identifier
    assert intermediate.crl_urls == (ADDRESSES.crl("ca-root"),)
    assert intermediate.ocsp_urls == (ADDRESSES.ocsp("ca-root"),)
    assert intermediate.not_after == NOW.replace(microsecond=0) + timedelta(days=1825)
    for der in (made.root.certificate_der, made.issuing.certificate_der):
        usage = extension_of(load_certificate(der), x509.KeyUsage)
        assert usage is not None and usage.key_cert_sign and usage.crl_sign


async def test_the_responder_says_nocheck_and_signs_nothing_else() -> None:
    made = await make_ca()
    key = await made.key(KeyAlgorithm.ECDSA_P256, "k-ocsp")
    certificate = load_certificate(await make_ocsp_responder(made.issuing, key, made.signer, NOW, timedelta(days=14)))
    assert extension_of(certificate, x509.OCSPNoCheck) is not None
    assert list(extension_of(certificate, x509.ExtendedKeyUsage) or ()) == [OCSP_SIGNING]
    usage = extension_of(certificate, x509.KeyUsage)
    assert usage is not None and usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign
    assert certificate.subject.rfc4514_string() == "CN=Test Issuing OCSP responder"


async def test_an_intermediate_lives_and_nests_within_its_issuer(tmp_path: Path) -> None:
    made = await make_ca()
    key = await made.key(KeyAlgorithm.ECDSA_P256, "k-sub")

    async def make(name: str, issuer: IssuingCA, days: int, path_length: int) -> bytes:
        return await make_intermediate(
            name, key, issuer, made.signer, ADDRESSES, NOW, timedelta(days=days), path_length
        )

    der = await make("Sub", made.root, 36500, 3)
    assert read_certificate(der).not_after == read_certificate(made.root.certificate_der).not_after
    assert read_certificate(der).path_length == 3
    for name, issuer, path_length in (
        ("Sub", made.issuing, 0),  # beneath path length 0
        ("Sub", made.root, -1),
        ("Test Root", made.root, 0),  # its issuer's own name
        ("", made.root, 0),
        ("x" * 65, made.root, 0),
    ):
        with pytest.raises(Misconfigured):
            await make(name, issuer, 10, path_length)


async def test_a_root_beyond_2049_reads_back(tmp_path: Path) -> None:
    made = await make_ca()
    key = await made.key(KeyAlgorithm.ECDSA_P384, "k-long")
    root = await make_root("Long Root", key, made.signer, NOW, timedelta(days=365 * 30))
    assert read_certificate(root).not_after.year == 2056
    assert openssl_verify(tmp_path, root, (), root) == "leaf.pem: OK\n"
