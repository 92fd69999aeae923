"""JSON Web Signature (RFC 7515) and its keys (RFC 7517, 7518, 8037, 7638), as far as ACME uses them (RFC 8555 6.2).

Flattened serialization with one signature, nothing unprotected, base64url in its one canonical form. The algorithm is
taken from a short list and must fit the key: `none` and MACs are no signatures. Pure; every parser is fuzzed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from msgspec import Struct

from certctl.core.errors import Malformed
from certctl.pki.keys import PrivateKey, PublicKey, describe_key
from certctl.wire.problem import AcmeRefusal, ProblemType

MEDIA_TYPE = "application/jose+json"
_Digest = type[hashes.SHA256] | type[hashes.SHA384] | type[hashes.SHA512]
_RSA: dict[str, _Digest] = {"RS256": hashes.SHA256, "RS384": hashes.SHA384, "RS512": hashes.SHA512}
# algorithm -> curve, its name in a JWK, octets of a coordinate, hash (RFC 7518 3.4, 6.2.1.1)
_EC: dict[str, tuple[type[ec.EllipticCurve], str, int, _Digest]] = {
    "ES256": (ec.SECP256R1, "P-256", 32, hashes.SHA256),
    "ES384": (ec.SECP384R1, "P-384", 48, hashes.SHA384),
    "ES512": (ec.SECP521R1, "P-521", 66, hashes.SHA512),
}
_CURVES = {name: (curve, octets) for curve, name, octets, _ in _EC.values()}
_MACS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
ALGORITHMS = (*_EC, "EdDSA", *_RSA)
MAC_ALGORITHMS = tuple(_MACS)
_MOST_MODULUS_OCTETS = 1025  # 8192 bits, and a leading zero that some write
_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class _Flattened(Struct, frozen=True, forbid_unknown_fields=True):
    protected: str
    payload: str
    signature: str


class Jws(Struct, frozen=True):
    """One signed message, read and not yet verified. `header` is the protected one."""

    header: dict[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """`alg`, as it was said."""
        return str(self.header["alg"])


class Jwk(Struct, frozen=True):
    """A public key: `canonical` is its JSON with the required members in order (RFC 7638 3), nothing else."""

    key: Any
    canonical: str

    @property
    def thumbprint(self) -> str:
        """SHA-256 thumbprint, base64url."""
        return encode(hashlib.sha256(self.canonical.encode()).digest())


def encode(octets: bytes) -> str:
    """base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decode(text: str, what: str) -> bytes:
    """base64url without padding, in the one form that `encode` gives. Raises Malformed."""
    if not _BASE64URL.issuperset(text):
        raise Malformed(f"{what} is not base64url without padding")
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{what} is not base64url without padding") from error
    if encode(octets) != text:
        raise Malformed(f"{what} is not in canonical base64url")
    return octets


def read_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises Malformed; deep nesting too."""
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{what} is no JSON") from error
    if not isinstance(data, dict):
        raise Malformed(f"{what} is no JSON object")
    return data


def read_jws(data: bytes | dict[str, Any]) -> Jws:
    """Read a flattened JWS, from its bytes or from within another message. Raises Malformed.

    `crit` is refused, since no extension is understood (RFC 7515 4.1.11), and with it the unencoded payload.
    """
    try:
        flat = msgspec.json.decode(data, type=_Flattened) if isinstance(data, bytes) else _nested(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(
            "the body must be a JWS in flattened JSON: protected, payload and signature, and nothing else"
        ) from error
    header = read_json(decode(flat.protected, "the protected header"), "the protected header")
    if not isinstance(header.get("alg"), str):
        raise Malformed("the protected header has no alg")
    if "crit" in header or "b64" in header:
        raise Malformed("the protected header asks for an extension that is not understood")
    return Jws(
        header=header,
        payload=decode(flat.payload, "the payload"),
        signing_input=f"{flat.protected}.{flat.payload}".encode(),
        signature=decode(flat.signature, "the signature"),
    )


def _nested(data: dict[str, Any]) -> _Flattened:
    return msgspec.convert(data, _Flattened)


def read_jwk(data: object) -> Jwk:
    """A public key of a protected header. Raises AcmeRefusal (badPublicKey) and Malformed."""
    if not isinstance(data, dict):
        raise Malformed("jwk is no JSON object")
    if "d" in data or "k" in data:
        raise _bad_key("it holds a private or symmetric key")
    reader = {"RSA": _read_rsa, "EC": _read_ec, "OKP": _read_okp}.get(str(data.get("kty")))
    if reader is None:
        raise _bad_key("kty is RSA, EC or OKP")
    try:
        key, members = reader(data)
        describe_key(key)
    except (Malformed, ValueError) as error:
        raise _bad_key(getattr(error, "message", "it is no such key")) from error
    return Jwk(key, msgspec.json.encode(dict(sorted(members.items()))).decode())


def _read_rsa(data: dict[str, Any]) -> tuple[PublicKey, dict[str, str]]:
    modulus, exponent = _octets(data, "n"), _octets(data, "e")
    if len(modulus) > _MOST_MODULUS_OCTETS or len(exponent) > 32:
        raise Malformed("RSA keys have at most 8192 bits")
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    return rsa.RSAPublicNumbers(e, n).public_key(), {"kty": "RSA", "n": encode(_minimal(n)), "e": encode(_minimal(e))}


def _read_ec(data: dict[str, Any]) -> tuple[PublicKey, dict[str, str]]:
    known = _CURVES.get(str(data.get("crv")))
    if known is None:
        raise Malformed(f"crv is one of {', '.join(_CURVES)}")
    curve, octets = known
    x, y = _octets(data, "x"), _octets(data, "y")
    if len(x) != octets or len(y) != octets:
        raise Malformed(f"coordinates of {data['crv']} have {octets} octets")
    key = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve()).public_key()
    return key, {"kty": "EC", "crv": str(data["crv"]), "x": encode(x), "y": encode(y)}


def _read_okp(data: dict[str, Any]) -> tuple[PublicKey, dict[str, str]]:
    x = _octets(data, "x")
    if data.get("crv") != "Ed25519" or len(x) != 32:
        raise Malformed("crv is Ed25519, with 32 octets")
    return ed25519.Ed25519PublicKey.from_public_bytes(x), {"kty": "OKP", "crv": "Ed25519", "x": encode(x)}


def _octets(data: dict[str, Any], name: str) -> bytes:
    value = data.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is missing")
    return decode(value, name)


def _minimal(number: int) -> bytes:
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _bad_key(why: str) -> AcmeRefusal:
    return AcmeRefusal(ProblemType.BAD_PUBLIC_KEY, f"the JWK is not accepted: {why}")


def check_algorithm(jws: Jws) -> None:
    """Refuse what is no signature of ours, before any key is looked at; tells which are (RFC 8555 6.2)."""
    if jws.algorithm not in ALGORITHMS:
        raise AcmeRefusal(
            ProblemType.BAD_SIGNATURE_ALGORITHM,
            f"the signature algorithm {jws.algorithm[:32]!r} is not accepted",
            algorithms=ALGORITHMS,
        )


def check_fits(jws: Jws, jwk: Jwk) -> None:
    """Refuse a key of another kind than the algorithm signs with (RFC 8555 6.2)."""
    algorithm, key = jws.algorithm, jwk.key
    if algorithm in _RSA:
        fits = isinstance(key, rsa.RSAPublicKey)
    elif algorithm in _EC:
        fits = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _EC[algorithm][0])
    else:
        fits = isinstance(key, ed25519.Ed25519PublicKey)
    if not fits:
        raise _bad_key(f"it is no key for {algorithm[:32]}")


def verify(jws: Jws, jwk: Jwk) -> bool:
    """Whether `jwk` signed it, with the algorithm that it says and that fits the key."""
    check_algorithm(jws)
    try:
        return _verify(jws, jwk.key)
    except (InvalidSignature, ValueError):
        return False


def _verify(jws: Jws, key: PublicKey) -> bool:
    algorithm = jws.algorithm
    if algorithm in _RSA and isinstance(key, rsa.RSAPublicKey):
        key.verify(jws.signature, jws.signing_input, padding.PKCS1v15(), _RSA[algorithm]())
        return True
    if algorithm in _EC and isinstance(key, ec.EllipticCurvePublicKey):
        curve, _, octets, digest = _EC[algorithm]
        if not isinstance(key.curve, curve) or len(jws.signature) != 2 * octets:
            return False
        r, s = (int.from_bytes(part, "big") for part in (jws.signature[:octets], jws.signature[octets:]))
        key.verify(encode_dss_signature(r, s), jws.signing_input, ec.ECDSA(digest()))
        return True
    if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(jws.signature, jws.signing_input)
        return True
    return False


def verify_mac(jws: Jws, secret: bytes) -> bool:
    """Whether whoever holds `secret` made it (RFC 7518 3.2); False for an algorithm that is no MAC."""
    digest = _MACS.get(jws.algorithm)
    if digest is None:
        return False
    return hmac.compare_digest(hmac.digest(secret, jws.signing_input, digest), jws.signature)


def jwk_of(key: PrivateKey | PublicKey) -> Jwk:
    """The public half of a key. Raises AcmeRefusal (badPublicKey) for a kind that signs nothing here."""
    public = key.public_key() if isinstance(key, PrivateKey) else key
    members: dict[str, str]
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        members = {"e": encode(_minimal(numbers.e)), "kty": "RSA", "n": encode(_minimal(numbers.n))}
    elif isinstance(public, ed25519.Ed25519PublicKey):
        members = {"crv": "Ed25519", "kty": "OKP", "x": encode(public.public_bytes_raw())}
    else:
        name, octets = next(
            (name, octets) for curve, name, octets, _ in _EC.values() if isinstance(public.curve, curve)
        )
        x, y = (encode(each.to_bytes(octets, "big")) for each in (public.public_numbers().x, public.public_numbers().y))
        members = {"crv": name, "kty": "EC", "x": x, "y": y}
    return Jwk(public, msgspec.json.encode(members).decode())


def sign(key: PrivateKey, header: dict[str, Any], payload: bytes) -> bytes:
    """A flattened JWS over `payload`; `alg` is the one that fits the key, whatever the header says."""
    return _flattened({"alg": _algorithm_for(key)} | header, payload, lambda octets: _signature(key, octets))


def sign_mac(secret: bytes, header: dict[str, Any], payload: bytes) -> dict[str, str]:
    """A flattened JWS with HS256, to stand within another message (RFC 8555 7.3.4)."""
    made = _flattened({"alg": "HS256"} | header, payload, lambda octets: hmac.digest(secret, octets, "sha256"))
    found: dict[str, str] = msgspec.json.decode(made)
    return found


def _flattened(header: dict[str, Any], payload: bytes, signed: Callable[[bytes], bytes]) -> bytes:
    protected, body = encode(msgspec.json.encode(header)), encode(payload)
    signature = encode(signed(f"{protected}.{body}".encode()))
    return msgspec.json.encode(_Flattened(protected=protected, payload=body, signature=signature))


def _algorithm_for(key: PrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    return next(algorithm for algorithm, (curve, *_) in _EC.items() if isinstance(key.curve, curve))


def _signature(key: PrivateKey, octets: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(octets)
    _, _, size, digest = _EC[_algorithm_for(key)]
    r, s = decode_dss_signature(key.sign(octets, ec.ECDSA(digest())))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
