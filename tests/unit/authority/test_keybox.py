"""The database signer: sealed rows open only under their key and in their place; nothing shows a private key."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from certctl.authority.keybox import DatabaseSigner
from certctl.authority.signer import SealedKey
from certctl.core.errors import Misconfigured, NotFound, TrustError
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm, SignatureAlgorithm
from certctl.pki.keys import load_public_key
from made_ca import MadeCA, sealer_of


def verify(spki_der: bytes, algorithm: KeyAlgorithm, signature: bytes, tbs: bytes) -> None:
    key = load_public_key(spki_der)
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, tbs, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, tbs)
    else:
        digest = hashes.SHA384() if algorithm is KeyAlgorithm.ECDSA_P384 else hashes.SHA256()
        key.verify(signature, tbs, ec.ECDSA(digest))


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_every_algorithm_signs_deterministically_in_every_process(algorithm: KeyAlgorithm) -> None:
    made = MadeCA()
    row = await made.key(algorithm, "k-1")
    signatures = {
        await signer.sign("k-1", SIGNATURE_OF[algorithm], b"tbs")
        for signer in (made.signer, made.signer, made.new_signer())
    }
    assert len(signatures) == 1
    verify(row.spki_der, algorithm, signatures.pop(), b"tbs")
    with pytest.raises(InvalidSignature):
        verify(row.spki_der, algorithm, await made.signer.sign("k-1", SIGNATURE_OF[algorithm], b"other"), b"tbs")
    assert await made.new_signer().public_key("k-1") == row.spki_der


async def test_a_key_signs_with_its_own_algorithm_only() -> None:
    made = MadeCA()
    await made.key(KeyAlgorithm.ECDSA_P256, "k-1")
    with pytest.raises(Misconfigured, match="does not sign with"):
        await made.signer.sign("k-1", SignatureAlgorithm.ECDSA_SHA384, b"tbs")
    with pytest.raises(NotFound):
        await made.signer.sign("k-2", SignatureAlgorithm.ECDSA_SHA256, b"tbs")


async def test_a_row_moved_to_another_reference_does_not_open() -> None:
    made = MadeCA()
    made.rows["k-2"] = await made.key(KeyAlgorithm.ECDSA_P256, "k-1")
    with pytest.raises(TrustError, match="another row"):
        await made.new_signer().public_key("k-2")


async def test_a_row_with_anothers_public_key_is_refused() -> None:
    made = MadeCA()
    row, other = await made.key(KeyAlgorithm.ECDSA_P256, "k-1"), await made.key(KeyAlgorithm.ECDSA_P256, "k-2")
    made.rows["k-1"] = msgspec.structs.replace(row, spki_der=other.spki_der)
    with pytest.raises(TrustError, match="public key of its row"):
        await made.new_signer().sign("k-1", SignatureAlgorithm.ECDSA_SHA256, b"tbs")


async def test_another_configuration_key_says_what_to_do() -> None:
    made = MadeCA()
    row = await made.key(KeyAlgorithm.ED25519, "k-1")

    async def load(key_ref: str) -> SealedKey:
        return row

    with pytest.raises(Misconfigured, match="CERTCTL_CONFIG_ENCRYPTION_KEY"):
        await DatabaseSigner(load, sealer_of("another passphrase")).sign("k-1", SignatureAlgorithm.ED25519, b"tbs")


async def test_nothing_shows_a_key() -> None:
    made = MadeCA()
    row = await made.key(KeyAlgorithm.ECDSA_P256, "k-1")
    assert repr(made.signer) == str(made.signer) == "DatabaseSigner()"
    assert b"PRIVATE" not in row.sealed


async def test_keys_are_unsealed_once_and_few_are_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeCA()
    for number in range(4):
        await made.key(KeyAlgorithm.ED25519, f"k-{number}")
    loads: list[str] = []

    async def load(key_ref: str) -> SealedKey:
        loads.append(key_ref)
        return made.rows[key_ref]

    monkeypatch.setattr("certctl.authority.keybox.MAX_OPEN_KEYS", 2)
    signer = DatabaseSigner(load, sealer_of())
    for key_ref in ("k-0", "k-0", "k-1", "k-2", "k-0"):
        await signer.public_key(key_ref)
    assert loads == ["k-0", "k-1", "k-2", "k-0"]
