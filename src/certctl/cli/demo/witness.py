"""An independent look at what the demo claims: a real TLS handshake against the root, a real OCSP question over HTTP.

Shares no code with the server's side: Python's own TLS, cryptography's own OCSP reader.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from msgspec import Struct

_SECONDS = 5.0


class Seen(Struct, frozen=True):
    """What a client that trusts only the demo's root saw."""

    fingerprint_sha256: str
    leaf_der: bytes
    trusted: bool
    why_not: str


def look(port: int, name: str, ca_path: Path) -> Seen:
    """Handshake with SNI; first as a client that verifies, then, if that fails, as one that only looks."""
    strict = ssl.create_default_context(cafile=str(ca_path)) if ca_path.exists() else ssl.create_default_context()
    try:
        leaf_der = _handshake(strict, port, name)
    except ssl.SSLCertVerificationError as error:
        loose = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        loose.check_hostname = False
        loose.verify_mode = ssl.CERT_NONE
        leaf_der = _handshake(loose, port, name)
        return Seen(hashlib.sha256(leaf_der).hexdigest(), leaf_der, trusted=False, why_not=error.verify_message)
    return Seen(hashlib.sha256(leaf_der).hexdigest(), leaf_der, trusted=True, why_not="")


def _handshake(context: ssl.SSLContext, port: int, name: str) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), _SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as session,
    ):
        return session.getpeercert(binary_form=True) or b""


def ask_ocsp(leaf_der: bytes, issuer_der: bytes) -> str:
    """What the responder that the certificate itself names says of it: good, revoked (and why), or unknown."""
    leaf, issuer = x509.load_der_x509_certificate(leaf_der), x509.load_der_x509_certificate(issuer_der)
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    url = next(
        entry.access_location.value for entry in access if entry.access_method == AuthorityInformationAccessOID.OCSP
    )
    question = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    call = urllib.request.Request(  # noqa: S310 - the address is in the certificate we issued, plain HTTP by RFC 5280
        url,
        data=question.public_bytes(serialization.Encoding.DER),
        headers={"Content-Type": "application/ocsp-request"},
    )
    with urllib.request.urlopen(call, timeout=_SECONDS) as reply:  # noqa: S310 - as above
        answer = ocsp.load_der_ocsp_response(reply.read())
    if answer.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
        return answer.response_status.name.lower()
    status = answer.certificate_status.name.lower()
    reason = answer.revocation_reason
    return f"{status} ({reason.value})" if reason is not None else status
