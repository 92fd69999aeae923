"""The tls-alpn-01 challenge (RFC 8737, RFC 8738 6): a handshake for a protocol that only the right server speaks."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from datetime import timedelta

from cryptography import x509
from msgspec import Struct

from certctl.connectors.dial import DialPolicy, dial
from certctl.connectors.validation.resolving import Resolver
from certctl.core.errors import Malformed, Misconfigured, Rejected, Temporary
from certctl.core.names import Name, NameKind
from certctl.pki import sans
from certctl.pki.certs import load_certificate
from certctl.telemetry.logging import get_logger
from certctl.wire.acme import ID_PE_ACME_IDENTIFIER, TLS_ALPN
from certctl.wire.problem import AcmeRefusal, ProblemType

log = get_logger(__name__)

_OID = x509.ObjectIdentifier(ID_PE_ACME_IDENTIFIER)


class Way(Struct, frozen=True):
    """How to get there."""

    policy: DialPolicy
    resolver: Resolver
    port: int
    timeout: timedelta


async def shake_hands(way: Way, name: Name, digest: bytes) -> None:
    """Return when the certificate shown is the challenge's. Raises AcmeRefusal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([TLS_ALPN])
    certificate_der = await _certificate(way, name, context)
    try:
        certificate = load_certificate(certificate_der)
    except Malformed as error:
        raise AcmeRefusal(ProblemType.INCORRECT_RESPONSE, "the certificate cannot be read") from error
    _judge(certificate, name, digest)


async def _certificate(way: Way, name: Name, context: ssl.SSLContext) -> bytes:
    try:
        _, writer = await dial(
            name.value,
            way.port,
            way.policy,
            way.timeout,
            ssl=context,
            server_hostname=server_name(name),
            resolver=way.resolver.addresses,
        )
    except Misconfigured as error:
        log.info("acme_validation_not_dialled", name=name.value, error=error.message)
        raise AcmeRefusal(ProblemType.CONNECTION, f"{name.value} has no address that may be dialled") from error
    except Rejected as error:
        raise AcmeRefusal(ProblemType.TLS, f"the TLS handshake with {name.value} failed") from error
    except Temporary as error:
        raise AcmeRefusal(ProblemType.CONNECTION, f"{name.value} port {way.port} does not answer") from error
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != TLS_ALPN:
            raise AcmeRefusal(ProblemType.TLS, f"the server of {name.value} does not speak {TLS_ALPN}")
        return tls.getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()


def server_name(name: Name) -> str:
    """What the handshake asks for: an address by its reverse name (RFC 8738 6)."""
    return ipaddress.ip_address(name.value).reverse_pointer if name.kind is NameKind.IP else name.value


def _judge(certificate: x509.Certificate, name: Name, digest: bytes) -> None:
    """RFC 8737 3: exactly the one name, and the digest in a critical extension."""
    wrong = AcmeRefusal(
        ProblemType.INCORRECT_RESPONSE, f"the server of {name.value} shows another certificate than the challenge's"
    )
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = [sans.read_general_name(value) for value in alternative]
        extension = certificate.extensions.get_extension_for_oid(_OID)
    except (x509.ExtensionNotFound, Malformed) as error:
        raise wrong from error
    value = extension.value
    # an OCTET STRING of 32 octets
    shown = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    if named != [name] or not extension.critical or not hmac.compare_digest(shown, b"\x04\x20" + digest):
        raise wrong
