"""What two versions of a certificate say differently, field by field, and what one says. Pure."""

from __future__ import annotations

from msgspec import Struct

from certctl.pki.certs import CertificateFacts
from certctl.web.words import exact, span
from certctl.web.words import gettext as _

_EKUS = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
}
_SIGNATURES = {
    "1.2.840.10045.4.3.2": "ECDSA, SHA-256",
    "1.2.840.10045.4.3.3": "ECDSA, SHA-384",
    "1.2.840.10045.4.3.4": "ECDSA, SHA-512",
    "1.2.840.113549.1.1.11": "RSA, SHA-256",
    "1.2.840.113549.1.1.12": "RSA, SHA-384",
    "1.2.840.113549.1.1.13": "RSA, SHA-512",
    "1.2.840.113549.1.1.10": "RSA-PSS",
    "1.3.101.112": "Ed25519",
}


class Field(Struct, frozen=True, kw_only=True):
    """One thing that a certificate says; `mono` for what is compared letter by letter."""

    name: str
    values: tuple[str, ...]
    mono: bool = False


class Difference(Struct, frozen=True, kw_only=True):
    """A field whose values are not the same: those that went, and those that came."""

    name: str
    gone: tuple[str, ...]
    come: tuple[str, ...]
    mono: bool


def serial_text(number: int) -> str:
    """A serial number as lowercase hex in pairs."""
    digits = f"{number:x}"
    digits = digits.zfill(len(digits) + len(digits) % 2)
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def pairs(text: str) -> str:
    """A fingerprint in pairs."""
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))


def fields_of(facts: CertificateFacts) -> list[Field]:
    """Everything that is shown of a certificate, in the order of RFC 5280 4.1."""
    life = facts.not_after - facts.not_before
    listed = [
        Field(name=_("Subject"), values=(facts.subject,)),
        Field(name=_("Names"), values=(*(str(name) for name in facts.names), *facts.other_names)),
        Field(name=_("Issuer"), values=(facts.issuer,)),
        Field(name=_("Serial"), values=(serial_text(facts.serial_number),), mono=True),
        Field(name=_("Not before"), values=(exact(facts.not_before),)),
        Field(name=_("Not after"), values=(exact(facts.not_after),)),
        Field(name=_("Life"), values=(span(life),)),
        Field(name=_("Key"), values=(str(facts.key),)),
        Field(
            name=_("Signature"), values=(_SIGNATURES.get(facts.signature_algorithm_oid, facts.signature_algorithm_oid),)
        ),
        Field(name=_("Usage"), values=tuple(_EKUS.get(oid, oid) for oid in facts.ekus)),
        Field(name=_("Must staple"), values=(_("yes"),) if facts.must_staple else ()),
        Field(name=_("OCSP"), values=facts.ocsp_urls),
        Field(name=_("CRL"), values=facts.crl_urls),
        Field(name=_("SHA-256"), values=(pairs(facts.fingerprint_sha256),), mono=True),
        Field(name=_("Key SHA-256"), values=(pairs(facts.spki_sha256),), mono=True),
    ]
    return [field for field in listed if any(field.values)]


def differences(before: CertificateFacts, after: CertificateFacts) -> tuple[list[Difference], int]:
    """What changed, and how many fields did not."""
    old = {field.name: field for field in fields_of(before)}
    new = {field.name: field for field in fields_of(after)}
    found, same = [], 0
    for name in dict.fromkeys([*new, *old]):
        was = old[name].values if name in old else ()
        now = new[name].values if name in new else ()
        if was == now:
            same += 1
            continue
        either = new.get(name) or old[name]
        found.append(
            Difference(
                name=name,
                gone=tuple(value for value in was if value not in now),
                come=tuple(value for value in now if value not in was),
                mono=either.mono,
            )
        )
    return found, same
