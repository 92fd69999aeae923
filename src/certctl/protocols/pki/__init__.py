"""The public PKI endpoints: CRL, OCSP and CA certificates under `/.well-known/pki/` (RFC 5280 4.2, RFC 6960 A).

A plain ASGI app over the facts that the composition root hands it; also served by the plain-HTTP listener, so it has no
other route and knows no caller. Must never show a trace: what goes wrong inside is logged, and answered with OCSP
internalError or a bare 500.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from certctl.core.clock import Clock, SystemClock
from certctl.core.errors import (
    CallerError,
    CertctlError,
    Conflict,
    Malformed,
    NotFound,
    Temporary,
    TooLarge,
    UnsupportedMediaType,
)
from certctl.core.ids import check_id
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import serial_hex, serial_int
from certctl.protocols.pki.answers import Kept, KeptAnswers, Reply
from certctl.protocols.pki.documents import Document, http_date, serve
from certctl.telemetry import metrics
from certctl.telemetry.logging import get_logger
from certctl.telemetry.tally import Tally
from certctl.wire import ocsp
from certctl.wire.ocsp import CertId, OcspRequest, ResponseStatus

PREFIX = "/.well-known/pki/"
MAX_CACHE_AGE = timedelta(hours=1)
_PART = 1 << 18
# a shard, a delta, or the delta to a shard
_PART_OF_CRL = re.compile(r"(?:([1-9][0-9]{0,3})(?:/(?=d)|$))?(delta)?", re.ASCII)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class CrlDocument(Struct, frozen=True):
    """A signed CRL, what it says of its own time, and its entity tag: tens of megabytes are hashed once."""

    der: bytes
    this_update: datetime
    next_update: datetime
    number: int
    etag: str


def etag_of(body: bytes) -> str:
    """A strong entity tag (RFC 9110 8.8.3)."""
    return f'"{hashlib.sha256(body).hexdigest()}"'


class OcspDocument(Struct, frozen=True):
    """A signed OCSP answer; `cacheable_until` is None when nobody outside may keep it, `usable_until` when this process
    may not give it twice either.
    """

    der: bytes
    cacheable_until: datetime | None
    usable_until: datetime | None = None


class PkiFacts(Protocol):
    """Where the answers come from: each takes a CA generation's id or an issuer's, and gives None for neither."""

    async def crl(self, ca_or_issuer_id: str) -> CrlDocument | None:
        """The current CRL."""
        ...

    async def crl_part(self, ca_or_issuer_id: str, shard: int, *, is_delta: bool) -> CrlDocument | None:
        """A shard (from 1 on) of the CRL, or the delta to a shard or (0) to the whole; None where there is none."""
        ...

    async def ocsp(self, ca_or_issuer_id: str, request_der: bytes) -> OcspDocument | None:
        """The answer to an OCSP request; malformed ones are answered too."""
        ...

    async def ca_certificate(self, ca_or_issuer_id: str) -> bytes | None:
        """The CA's own certificate, DER."""
        ...


class _Request(Struct, frozen=True):
    """One HTTP request, its header names in lowercase and its path below the prefix."""

    method: str
    kind: str
    id: str
    rest: str
    headers: dict[str, str]


class _MethodNotAllowed(CallerError):
    """The route is there, the method is not; `allow` tells those that are."""

    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__("method not allowed")
        self.allow = allow


class _ClientGone(Exception):
    """The client hung up while its body was read; nobody is left to answer."""


class PkiApp:
    """The ASGI app."""

    def __init__(
        self,
        facts: PkiFacts,
        clock: Clock | None = None,
        tally: Tally | None = None,
        answers: KeptAnswers | None = None,
    ) -> None:
        self._facts = facts
        self._answers = answers
        self._tally = tally or Tally()
        self._clock = clock or SystemClock()
        self._log = get_logger(__name__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; take part in lifespan; refuse everything else."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self._reply(scope, receive)
            except _ClientGone:
                return
            await _send(reply, send, has_body=scope["method"] != "HEAD")
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        try:
            request = _read_request(scope)
            if request.kind == "crl":
                return await self._crl(request)
            if request.kind == "certs":
                return await self._ca_certificate(request)
            return await self._ocsp(request, receive)
        except CallerError as error:
            return _refusal(error)
        except _ClientGone:
            raise
        except Temporary as error:
            self._log.warning("public PKI endpoint has to wait", path=scope["path"], error=error)
            return _text(503, "try again later")
        except Exception as error:
            self._log.exception("public PKI endpoint failed", path=scope["path"], error=error)
            return _text(500, "internal error")

    async def _crl(self, request: _Request) -> Reply:
        _allow(request, "GET, HEAD")
        which = _PART_OF_CRL.fullmatch(request.rest)
        if which is None:
            raise NotFound("no CRL of that name")
        if request.rest:
            found = await self._facts.crl_part(request.id, int(which[1] or 0), is_delta=bool(which[2]))
        else:
            found = await self._facts.crl(request.id)
        if found is None:
            raise NotFound("no CRL of that name")
        headers = (
            ("cache-control", self._cache_control(found.next_update)),
            ("expires", http_date(found.next_update)),
        )
        document = Document(found.der, "application/pkix-crl", found.etag, found.this_update, headers)
        return serve(request.method, request.headers, document)

    async def _ca_certificate(self, request: _Request) -> Reply:
        _allow(request, "GET, HEAD")
        certificate_der = await self._facts.ca_certificate(request.id)
        if certificate_der is None:
            raise NotFound("no CA certificate of that name")
        headers = (("cache-control", f"public, max-age={int(MAX_CACHE_AGE.total_seconds())}"),)
        return _with_etag(request, Reply(200, "application/pkix-cert", certificate_der, headers))

    async def _ocsp(self, request: _Request, receive: Receive) -> Reply:
        if request.rest:
            _allow(request, "GET, HEAD")
            self._count("request_get")
            try:
                request_der = await self._request_of_path(request)
            except Malformed:
                self._count("request_invalid")
                return _ocsp_error(ResponseStatus.MALFORMED_REQUEST)
        else:
            _allow(request, "POST")
            self._count("request_post")
            request_der = await _read_body(request, receive)
        kept = self._answers.get(request.id, request_der, self._clock.now()) if self._answers else None
        if kept is not None:
            for label in kept.labels:
                self._count(label)
            return kept.reply
        return await self._answer(request, request_der)

    async def _answer(self, request: _Request, request_der: bytes) -> Reply:
        ticket = self._answers.ticket() if self._answers else 0
        try:
            document = await self._facts.ocsp(request.id, request_der)
        except CallerError:
            raise
        except Temporary as error:
            self._log.warning("OCSP answer has to wait", ca=request.id, error=error)
            return _ocsp_error(ResponseStatus.TRY_LATER)
        except Exception as error:
            self._log.exception("OCSP answer failed", ca=request.id, error=error)
            self._count("signing_failed")
            return _ocsp_error(ResponseStatus.INTERNAL_ERROR)
        if document is None:
            self._count("issuer_not_found")
            raise NotFound("no OCSP responder of that name")
        asked, labels = _judge(request_der, document.der)
        for label in labels:
            self._count(label)
        is_for_all = asked is not None and asked.nonce is None
        if document.cacheable_until is None or not is_for_all:
            reply = Reply(200, ocsp.RESPONSE_TYPE, document.der, (("cache-control", "no-store"),))
        else:
            headers = (
                ("cache-control", self._cache_control(document.cacheable_until)),
                ("expires", http_date(document.cacheable_until)),
            )
            reply = _with_etag(request, Reply(200, ocsp.RESPONSE_TYPE, document.der, headers))
        serial = _only_known(asked, labels)
        if self._answers and serial and document.usable_until is not None and document.cacheable_until is None:
            self._answers.put(ticket, request.id, request_der, Kept(serial, document.usable_until, reply, labels))
        return reply

    def _count(self, label: str) -> None:
        self._tally.count(metrics.OCSP, label=label)

    async def _request_of_path(self, request: _Request) -> bytes:
        """Base64 of the request (RFC 6960 A.1), or a serial number in hex, for which the request is written here."""
        # DER starts with 0x30, so base64 of a request starts with M, which is no hex digit.
        if request.rest.startswith("M"):
            return _decode_base64(request.rest)
        serial_number = serial_int(request.rest)
        certificate_der = await self._facts.ca_certificate(request.id)
        if certificate_der is None:
            raise NotFound("no OCSP responder of that name")
        issuer = read_certificate(certificate_der)
        hashes = ocsp.issuer_hashes(ocsp.SHA256_OID, issuer.subject_der, issuer.spki_der)
        return ocsp.write_request((CertId(ocsp.SHA256_OID, hashes.name_hash, hashes.key_hash, serial_number),))

    def _cache_control(self, until: datetime) -> str:
        age = max(timedelta(0), min(until - self._clock.now(), MAX_CACHE_AGE))
        return f"public, max-age={int(age.total_seconds())}, must-revalidate, no-transform"


def _read_request(scope: Scope) -> _Request:
    """Raises NotFound for every path but the three, Malformed for an id that nothing can be named."""
    path = str(scope["path"])
    if not path.startswith(PREFIX):
        raise NotFound("no such page")
    kind, _, tail = path.removeprefix(PREFIX).partition("/")
    # Base64 has slashes of its own: everything after the id is the request.
    id_, slash, rest = tail.partition("/")
    if kind not in {"crl", "ocsp", "certs"} or not id_ or (slash and (kind == "certs" or not rest)):
        raise NotFound("no such page")
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers[name.decode("latin-1").lower()] = value.decode("latin-1")
    return _Request(scope["method"], kind, check_id(id_), rest, headers)


def _allow(request: _Request, methods: str) -> None:
    if request.method not in methods.split(", "):
        raise _MethodNotAllowed(methods)


def _decode_base64(text: str) -> bytes:
    if len(text) > ocsp.MAX_REQUEST_OCTETS * 4 // 3 + 4:
        raise TooLarge("an OCSP request has at most 64 KiB")
    try:
        # Some clients leave the padding away, as URLs escape it.
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("the OCSP request is no base64") from error


async def _read_body(request: _Request, receive: Receive) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != ocsp.REQUEST_TYPE:
        raise UnsupportedMediaType(f"the content type of an OCSP request is {ocsp.REQUEST_TYPE}")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 9 or int(length) > ocsp.MAX_REQUEST_OCTETS:
        raise TooLarge("an OCSP request has at most 64 KiB")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        body += message.get("body", b"")
        if len(body) > ocsp.MAX_REQUEST_OCTETS:
            raise TooLarge("an OCSP request has at most 64 KiB")
        if not message.get("more_body", False):
            return bytes(body)


def _judge(request_der: bytes, response_der: bytes) -> tuple[OcspRequest | None, tuple[str, ...]]:
    """What was asked, where the answer is a signed one, and the words that count it: from the bytes themselves."""
    try:
        asked = ocsp.read_request(request_der)
    except Malformed as error:
        nonce_is_wrong = any(violation.rule == ocsp.NONCE_IS_MALFORMED for violation in error.violations)
        return None, ("request_invalid", *(("nonce_malformed",) if nonce_is_wrong else ()))
    if ocsp.read_response_status(response_der) is not ResponseStatus.SUCCESSFUL:
        return None, ("request_invalid",)
    unknown = ("cert_not_found",) * ocsp.count_unknown(response_der)
    return asked, ("request_success", *unknown, *(("nonce_echoed",) if asked.nonce is not None else ()))


def _only_known(asked: OcspRequest | None, labels: tuple[str, ...]) -> str:
    """The serial number, in hex, that an answer without a nonce speaks of if it is one alone and known, else empty: of
    what was never issued nobody would hear when it is.
    """
    if asked is None or labels != ("request_success",) or len(asked.cert_ids) != 1:
        return ""
    return serial_hex(asked.cert_ids[0].serial_number)


def _with_etag(request: _Request, reply: Reply) -> Reply:
    """The reply with a strong ETag, or 304 when the client has these bytes already (RFC 9110 13.1.2)."""
    document = Document(reply.body, reply.content_type, etag_of(reply.body), headers=reply.headers)
    return serve(request.method, request.headers, document)


def _ocsp_error(status: ResponseStatus) -> Reply:
    return Reply(200, ocsp.RESPONSE_TYPE, ocsp.error_response(status), (("cache-control", "no-store"),))


_STATUS: dict[type[CertctlError], int] = {
    Malformed: 400,
    NotFound: 404,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    _MethodNotAllowed: 405,
    # Another process is publishing at this moment; asking again is all it takes.
    Conflict: 503,
}


def _refusal(error: CallerError) -> Reply:
    allow = (("allow", error.allow),) if isinstance(error, _MethodNotAllowed) else ()
    return _text(_STATUS.get(type(error), 400), error.message, allow)


def _text(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{text}\n".encode(), (*headers, ("cache-control", "no-store")))


async def _send(reply: Reply, send: Send, *, has_body: bool) -> None:
    headers = [*reply.headers, ("x-content-type-options", "nosniff")]
    if reply.status != 304:
        headers += [("content-type", reply.content_type), ("content-length", str(len(reply.body)))]
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    body = reply.body if has_body else b""
    # in parts: a client that reads slowly holds up neither the loop nor another copy of a long CRL
    for at in range(0, len(body) - _PART, _PART):
        await send({"type": "http.response.body", "body": body[at : at + _PART], "more_body": True})
    await send({"type": "http.response.body", "body": body[max(0, (len(body) - 1) // _PART * _PART) :]})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
