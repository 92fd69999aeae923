"""Signed tree heads as text: a checkpoint in a signed note (C2SP tlog-checkpoint, signed-note; Ed25519, RFC 8032).

    certctl/audit/0192…        the log's name (its origin)
    20852163                   how many entries
    CsUYapGGPo4dkMgIAUqo…=     the root, base64
    2026-11-26T13:40:02Z       when (an extension line)

    — certctl/audit/0192… Az3grl…=

Whoever has a log's verifier key can check a head with no other knowledge of certctl.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

_ED25519 = b"\x01"
_LONGEST = 4096


class Checkpoint(Struct, frozen=True):
    """What a head says: of the log `origin`, with `size` entries, the tree had this root at that moment."""

    origin: str
    size: int
    root: bytes
    at: datetime

    def text(self) -> str:
        """The signed part."""
        root, at = base64.b64encode(self.root).decode(), self.at.astimezone(UTC)
        return f"{self.origin}\n{self.size}\n{root}\n{at:%Y-%m-%dT%H:%M:%SZ}\n"


def key_hash(origin: str, public_key: bytes) -> bytes:
    """Four bytes that tell which key signed (signed-note)."""
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_key(origin: str, public_key: bytes) -> str:
    """What a verifier is given: `name+hash+key`. `public_key` is the raw 32 bytes."""
    return f"{origin}+{key_hash(origin, public_key).hex()}+{base64.b64encode(_ED25519 + public_key).decode()}"


def read_verifier_key(text: str) -> tuple[str, bytes]:
    """Origin and raw public key. Raises ValueError for anything else."""
    name, hashed, key = _three(text.strip(), "+")
    raw = _base64(key)
    if len(raw) != 33 or raw[:1] != _ED25519:
        raise ValueError("not an Ed25519 verifier key")
    if hashed != key_hash(name, raw[1:]).hex():
        raise ValueError("the verifier key does not belong to its name")
    return name, raw[1:]


def signed(checkpoint: Checkpoint, public_key: bytes, signature: bytes) -> str:
    """The note: the text, and the signature over its bytes."""
    told = base64.b64encode(key_hash(checkpoint.origin, public_key) + signature).decode()
    return f"{checkpoint.text()}\n— {checkpoint.origin} {told}\n"


def open_checkpoint(note: str, verifier: str) -> Checkpoint:
    """The head that a note tells, signed by the key of `verifier`. Raises ValueError for a bad signature or format."""
    origin, public_key = read_verifier_key(verifier)
    if len(note) > _LONGEST:
        raise ValueError("this is no signed tree head: it is too long")
    text, separator, signatures = note.partition("\n\n")
    text += "\n"
    if not separator:
        raise ValueError("this is no signed tree head: nothing is signed")
    known = key_hash(origin, public_key)
    for line in signatures.splitlines():
        name, told = _told(line)
        if name != origin or told[:4] != known:
            continue  # signatures of others, witnesses for instance, are none of ours
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(told[4:], text.encode())
        except InvalidSignature as error:
            raise ValueError("the signature of the tree head is wrong") from error
        return _read(text, origin)
    raise ValueError(f"the tree head is not signed by {origin}")


def read_checkpoint(note: str) -> Checkpoint:
    """What a note of our own says, its signature unseen. Raises ValueError."""
    text, separator, _ = note.partition("\n\n")
    if not separator or len(note) > _LONGEST:
        raise ValueError("this is no signed tree head")
    return _read(text + "\n", text.partition("\n")[0])


def _told(line: str) -> tuple[str, bytes]:
    dash, name, told = _three(line, " ")
    if dash != "—":
        raise ValueError("this is no signed tree head: a signature line begins with a dash")
    return name, _base64(told)


def _read(text: str, origin: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 5 or lines[0] != origin:
        raise ValueError("this tree head is of another log")
    if not (lines[1].isascii() and lines[1].isdigit()) or len(lines[1]) > 18 or str(int(lines[1])) != lines[1]:
        raise ValueError("this is no signed tree head: its size is no number")
    root = _base64(lines[2])
    if len(root) != 32:
        raise ValueError("this is no signed tree head: its root is no SHA-256")
    try:
        at = datetime.strptime(lines[3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError("this is no signed tree head of certctl: it has no time") from error
    return Checkpoint(origin, int(lines[1]), root, at)


def _three(text: str, by: str) -> tuple[str, str, str]:
    parts = text.split(by)
    if len(parts) < 3:
        raise ValueError("this is no signed note")
    # base64 may hold a plus, a name may not
    return parts[0], parts[1], by.join(parts[2:])


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is no signed note: its base64 is broken") from error
