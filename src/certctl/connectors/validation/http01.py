"""The http-01 challenge (RFC 8555 8.3): a file at a known place, over plain HTTP, a few redirects followed.

A redirect goes where any first step may go: to an address that was judged, on one of the two ports of validation.
"""

from __future__ import annotations

import hmac
import ssl
from datetime import timedelta
from urllib.parse import urljoin, urlsplit

import httpx
from msgspec import Struct

from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import client
from certctl.connectors.validation.resolving import Resolver
from certctl.core.errors import CertctlError, Misconfigured
from certctl.core.names import Name, NameKind
from certctl.telemetry.logging import get_logger
from certctl.wire.problem import AcmeRefusal, ProblemType

log = get_logger(__name__)

MOST_REDIRECTS = 10
_MOST_BYTES = 16 * 1024
_MOST_URL = 2048
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Way(Struct, frozen=True):
    """How to get there."""

    policy: DialPolicy
    resolver: Resolver
    http_port: int
    tls_port: int
    timeout: timedelta


async def fetch(way: Way, name: Name, token: str, wanted: str) -> None:
    """Return when the file holds the key authorization. Raises AcmeRefusal."""
    host = f"[{name.value}]" if name.kind is NameKind.IP and ":" in name.value else name.value
    port = "" if way.http_port == 80 else f":{way.http_port}"
    url = f"http://{host}{port}/.well-known/acme-challenge/{token}"
    session = client(
        way.policy,
        timeout=way.timeout,
        most_body_bytes=_MOST_BYTES,
        context=_any_certificate(),
        resolver=way.resolver.addresses,
    )
    async with session:
        for _ in range(MOST_REDIRECTS + 1):
            answer = await _get(session, url)
            if answer.status_code not in _REDIRECTS:
                _judge(answer, wanted)
                return
            url = _next(way, url, answer.headers.get("location", ""))
    raise AcmeRefusal(ProblemType.CONNECTION, f"more than {MOST_REDIRECTS} redirects")


def _any_certificate() -> ssl.SSLContext:
    """A redirect to HTTPS is followed whatever certificate is there: it is about to be made."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _get(session: httpx.AsyncClient, url: str) -> httpx.Response:
    try:
        return await session.get(url)
    except AcmeRefusal:
        raise
    except Misconfigured as error:
        log.info("acme_validation_not_dialled", url=url, error=error.message)
        raise AcmeRefusal(ProblemType.CONNECTION, f"{_shown(url)} has no address that may be dialled") from error
    except (CertctlError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise AcmeRefusal(ProblemType.CONNECTION, f"nothing was fetched from {_shown(url)}") from error


def _next(way: Way, url: str, location: str) -> str:
    target = urljoin(url, location)
    try:
        parts = urlsplit(target)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port, parts = 0, urlsplit("")
    allowed = {way.http_port, way.tls_port, 80, 443}
    if not location or parts.scheme not in {"http", "https"} or not parts.hostname or len(target) > _MOST_URL:
        raise AcmeRefusal(ProblemType.CONNECTION, "a redirect leads to no http or https address")
    if parts.username is not None or port not in allowed:
        raise AcmeRefusal(ProblemType.CONNECTION, "a redirect leads to another port than those of validation")
    return target


def _judge(answer: httpx.Response, wanted: str) -> None:
    where = _shown(str(answer.request.url))
    if answer.status_code != 200:
        raise AcmeRefusal(ProblemType.INCORRECT_RESPONSE, f"{where} answered {answer.status_code}")
    # RFC 8555 8.3: white space at the end does not matter
    if not hmac.compare_digest(answer.content.rstrip(), wanted.encode()):
        raise AcmeRefusal(ProblemType.INCORRECT_RESPONSE, f"{where} holds something else than the key authorization")


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:300]
