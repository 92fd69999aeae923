"""The value of an API key: `ctk_`, 40 random letters and digits, and a checksum of 6.

The checksum refuses typing errors and cut values without a look-up, and lets scanners for leaked secrets tell a key
from other text: `ctk_[0-9A-Za-z]{46}`. It proves nothing: who holds a key is found by its hash. Keys made before the
checksum (`ctk_` and 43 characters of base64url) stay good.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

from certctl.core.secret import Secret

PREFIX = "ctk_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH = 40  # 238 bits
_SUM_LENGTH = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _SUM_LENGTH}}}", re.ASCII)
_FORM_WITHOUT_SUM = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{43}}", re.ASCII)


def new_value() -> Secret:
    """A fresh value."""
    stem = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return Secret(stem + _checksum(stem))


def may_be_key(text: str) -> bool:
    """Whether this could be a key: what begins like one has to be whole; anything else is not ours to judge."""
    if not text.startswith(PREFIX):
        return True
    if _FORM.fullmatch(text):
        return text[-_SUM_LENGTH:] == _checksum(text[:-_SUM_LENGTH])
    return _FORM_WITHOUT_SUM.fullmatch(text) is not None


def _checksum(stem: str) -> str:
    number, digits = zlib.crc32(stem.encode()), ""
    for _ in range(_SUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits
