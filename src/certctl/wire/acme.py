"""What ACME clients send and are sent (RFC 8555 7, RFC 8738, RFC 9773, the profiles extension). Pure shapes and forms.

Fields that are not known are ignored (RFC 8555 7.3); a field of a wrong type is Malformed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from certctl.core.errors import Malformed
from certctl.core.names import Name, NameKind, canonical_dns, parse_name
from certctl.wire import jws
from certctl.wire.problem import AcmeRefusal, ProblemType, Subproblem

PEM_CHAIN = "application/pem-certificate-chain"
TLS_ALPN = "acme-tls/1"
ID_PE_ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31"  # RFC 8737 3
MOST_IDENTIFIERS = 100
StructT = TypeVar("StructT", bound=Struct)


class Identifier(Struct, frozen=True):
    """As a client writes it."""

    type: str
    value: str


class NewAccount(Struct, frozen=True, rename="camel"):
    """RFC 8555 7.3."""

    contact: list[str] = []
    terms_of_service_agreed: bool = False
    only_return_existing: bool = False
    external_account_binding: dict[str, Any] | None = None


class AccountUpdate(Struct, frozen=True):
    """RFC 8555 7.3.2, 7.3.6."""

    contact: list[str] | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET


class NewOrder(Struct, frozen=True, rename="camel"):
    """RFC 8555 7.4; `replaces` RFC 9773 5; `profile` of the profiles extension."""

    identifiers: list[Identifier]
    not_before: str | None = None
    not_after: str | None = None
    replaces: str | None = None
    profile: str | None = None


class StatusChange(Struct, frozen=True):
    """RFC 8555 7.5.2: an authorization that its holder gives up."""

    status: str


class Finalize(Struct, frozen=True):
    """RFC 8555 7.4: base64url of a CSR's DER."""

    csr: str


class Revocation(Struct, frozen=True):
    """RFC 8555 7.6: base64url of a certificate's DER, a CRLReason."""

    certificate: str
    reason: int | None = None


class KeyChange(Struct, frozen=True, rename="camel"):
    """RFC 8555 7.3.5: the inner payload."""

    account: str
    old_key: dict[str, Any]


class CertificateId(Struct, frozen=True):
    """RFC 9773 4.1: authority key identifier and serial number, by which a certificate is asked about."""

    key_identifier: bytes
    serial_number: int

    def __str__(self) -> str:
        return f"{jws.encode(self.key_identifier)}.{jws.encode(_der_integer(self.serial_number))}"


def read(payload: bytes, kind: type[StructT]) -> StructT:
    """A payload as `kind`. Raises Malformed, which names what is wrong and echoes nothing."""
    data = jws.read_json(payload, "the payload")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"the payload does not have the form asked for: {error}".replace("`", "")) from error


def read_identifiers(given: list[Identifier]) -> tuple[Name, ...]:
    """Canonical names, duplicates folded. AcmeRefusal tells of every one at fault, in subproblems when many."""
    if not given or len(given) > MOST_IDENTIFIERS:
        raise Malformed(f"an order has 1 to {MOST_IDENTIFIERS} identifiers")
    names: dict[Name, None] = {}
    faults: list[Subproblem] = []
    for each in given:
        try:
            names[_name(each)] = None
        except AcmeRefusal as error:
            faults.append(Subproblem(error.kind, error.message, (each.type[:32], each.value[:255])))
    if faults:
        refuse_identifiers(faults)
    return tuple(names)


def refuse_identifiers(faults: list[Subproblem]) -> None:
    """Raise what says so of one or several identifiers (RFC 8555 6.7.1)."""
    first = faults[0]
    if len(faults) == 1:
        raise AcmeRefusal(first.type, first.detail, subproblems=faults)
    detail = f"{len(faults)} identifiers are not accepted; see subproblems"
    raise AcmeRefusal(
        first.type if len({each.type for each in faults}) == 1 else ProblemType.COMPOUND, detail, subproblems=faults
    )


def _name(identifier: Identifier) -> Name:
    try:
        if identifier.type == "dns":
            return Name(NameKind.DNS, canonical_dns(_plain(identifier.value)))
        if identifier.type == "ip":
            return parse_name(f"ip:{identifier.value}")
    except Malformed as error:
        raise AcmeRefusal(ProblemType.REJECTED_IDENTIFIER, error.message) from error
    raise AcmeRefusal(ProblemType.UNSUPPORTED_IDENTIFIER, "identifiers are of type dns or ip")


def _plain(text: str) -> str:
    if not text.isascii() or text != text.strip():
        raise Malformed("a dns identifier is written in A-labels, without spaces")
    return text


def read_time(text: str | None, field: str) -> datetime | None:
    """An RFC 3339 time, aware. Raises Malformed."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise Malformed(f"{field} is no RFC 3339 time") from error
    if moment.tzinfo is None:
        raise Malformed(f"{field} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise Malformed(f"{field} lies outside of all time") from error


def show_time(moment: datetime) -> str:
    """RFC 3339, in whole seconds, UTC."""
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def read_certificate_id(text: str) -> CertificateId:
    """RFC 9773 4.1; Malformed unless in its one form."""
    first, dot, second = text.partition(".")
    if not dot or len(text) > 255:
        raise Malformed("a certificate's identifier has two parts with a dot between them")
    key_identifier, serial = jws.decode(first, "the key identifier"), jws.decode(second, "the serial number")
    number = int.from_bytes(serial, "big", signed=True)
    if not key_identifier or number <= 0 or _der_integer(number) != serial:
        raise Malformed("the serial number is no positive DER integer")
    return CertificateId(key_identifier, number)


def _der_integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def key_authorization(token: str, thumbprint: str) -> str:
    """RFC 8555 8.1."""
    return f"{token}.{thumbprint}"
