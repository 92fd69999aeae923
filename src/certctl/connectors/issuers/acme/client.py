"""One conversation with an ACME CA (RFC 8555): directory, nonces, signed requests, answers read strictly.

A bad nonce is answered with the new one that comes with it. Addresses that the CA names are https and dialled through
the same policy as the directory: no answer leads to the inside. Raises CaRefusal for problem documents.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

import httpx
import msgspec

from certctl.connectors import http
from certctl.connectors.issuers.acme.problems import CaRefusal
from certctl.core.errors import TrustError, Unsupported
from certctl.pki.keys import PrivateKey
from certctl.wire import jws
from certctl.wire.acme_answers import (
    AccountAnswer,
    AuthorizationAnswer,
    Directory,
    OrderAnswer,
    OrdersAnswer,
    Problem,
    RenewalInfo,
    check_url,
    links,
    read,
    read_problem,
    read_renewal_info,
)

StructT = TypeVar("StructT", bound=msgspec.Struct)
_MOST_BAD_NONCES = 12
_MOST_ORDER_PAGES = 20


class AcmeClient:
    """Speaks for one account key. `account_url` is empty until the account is known."""

    def __init__(self, session: httpx.AsyncClient, directory_url: str, key: PrivateKey, account_url: str = "") -> None:
        self._session = session
        self._directory_url = directory_url
        self._directory: Directory | None = None
        self._nonce = ""
        self.key = key
        self.account_url = account_url

    @property
    def thumbprint(self) -> str:
        """Of the account key (RFC 7638)."""
        return jws.jwk_of(self.key).thumbprint

    async def directory(self) -> Directory:
        """The CA's directory, read once a conversation."""
        if self._directory is None:
            answer = await self._get(self._directory_url, "the directory")
            self._directory = read(answer.content, Directory, "ACME directory; see directory_url")
        return self._directory

    async def register(self, payload: dict[str, Any], binding: tuple[str, bytes] | None = None) -> str:
        """Make or find the account; its address. `binding` is key id and key of an external account."""
        url = (await self.directory()).new_account
        if binding is not None:
            kid, secret = binding
            public = jws.jwk_of(self.key).canonical.encode()
            payload = payload | {"externalAccountBinding": jws.sign_mac(secret, {"kid": kid, "url": url}, public)}
        answer = await self.post(url, payload, "registering the account", by_key=True)
        told = read(answer.content, AccountAnswer, "ACME account")
        if told.status != "valid":
            raise CaRefusal(Problem("unauthorized", f"the account is {told.status}"), None, "registering the account")
        self.account_url = self._location(answer)
        return self.account_url

    async def new_order(self, payload: dict[str, Any]) -> tuple[str, OrderAnswer]:
        """A new order and its address."""
        answer = await self.post((await self.directory()).new_order, payload, "ordering")
        return self._location(answer), read(answer.content, OrderAnswer, "ACME order")

    async def order(self, url: str) -> tuple[OrderAnswer, timedelta | None]:
        """An order as it stands, and when to look again."""
        answer = await self.post(url, None, "looking at the order")
        return read(answer.content, OrderAnswer, "ACME order"), http.retry_after(answer)

    async def authorization(self, url: str) -> AuthorizationAnswer:
        """An authorization as it stands."""
        return read((await self.post(url, None, "authorizing")).content, AuthorizationAnswer, "ACME authorization")

    async def finalize(self, url: str, csr_der: bytes) -> tuple[OrderAnswer, timedelta | None]:
        """Ask for the certificate of an order that is ready."""
        answer = await self.post(url, {"csr": jws.encode(csr_der)}, "finalizing the order")
        return read(answer.content, OrderAnswer, "ACME order"), http.retry_after(answer)

    async def certificate(self, url: str) -> tuple[bytes, tuple[str, ...]]:
        """A chain in PEM, and the addresses of alternate ones."""
        answer = await self.post(url, None, "fetching the certificate", accept="application/pem-certificate-chain")
        header = ", ".join(answer.headers.get_list("Link"))
        return answer.content, tuple(str(httpx.URL(url).join(link)) for link in links(header, "alternate"))

    async def orders(self) -> list[str] | None:
        """The addresses of the account's orders, newest pages last; None from a CA that does not list them."""
        told = read(
            (await self.post(self.account_url, None, "reading the account")).content, AccountAnswer, "ACME account"
        )
        if not told.orders:
            return None
        found, url = [], told.orders
        for _ in range(_MOST_ORDER_PAGES):
            try:
                answer = await self.post(url, None, "listing orders")
            except CaRefusal as refusal:
                if refusal.problem.status in {404, 405, 501} or refusal.problem.kind == "malformed":
                    return None
                raise
            found += read(answer.content, OrdersAnswer, "list of ACME orders").orders
            after = links(", ".join(answer.headers.get_list("Link")), "next")
            if not after:
                break
            url = str(httpx.URL(url).join(after[0]))
        return found

    async def revoke(self, leaf_der: bytes, reason: int) -> None:
        """Revoke with the account's key."""
        url = (await self.directory()).revoke_cert
        if not url:
            raise Unsupported("the CA's directory has no revokeCert: revoke at the CA by hand")
        await self.post(url, {"certificate": jws.encode(leaf_der), "reason": reason}, "revoking")

    async def change_key(self, new_key: PrivateKey) -> None:
        """RFC 8555 7.3.5; the conversation goes on with the new key."""
        url = (await self.directory()).key_change
        if not url:
            raise Unsupported("the CA's directory has no keyChange")
        old = msgspec.Raw(jws.jwk_of(self.key).canonical.encode())
        inner = msgspec.json.encode({"account": self.account_url, "oldKey": old})
        header = {"jwk": msgspec.Raw(jws.jwk_of(new_key).canonical.encode()), "url": url}
        await self.post(url, msgspec.Raw(jws.sign(new_key, header, inner)), "changing the account's key")
        self.key = new_key

    async def renewal_info(self, certificate_id: str) -> tuple[RenewalInfo, timedelta | None] | None:
        """RFC 9773 4.1; None from a CA that has none."""
        base = (await self.directory()).renewal_info
        if not base:
            return None
        answer = await self._get(f"{base.rstrip('/')}/{certificate_id}", "asking for renewal information")
        return read_renewal_info(answer.content), http.retry_after(answer)

    async def post(
        self, url: str, payload: Any, where: str, *, by_key: bool = False, accept: str = "application/json"
    ) -> httpx.Response:
        """A signed request; without a payload it only reads (RFC 8555 6.3)."""
        check_url(url)
        content = b"" if payload is None else msgspec.json.encode(payload)
        for _ in range(_MOST_BAD_NONCES):
            header: dict[str, Any] = {"nonce": await self._fresh_nonce(), "url": url}
            if by_key:
                header["jwk"] = msgspec.Raw(jws.jwk_of(self.key).canonical.encode())
            else:
                header["kid"] = self.account_url
            answer = await http.fetch(
                self._session,
                "POST",
                url,
                content=jws.sign(self.key, header, content),
                headers={"Content-Type": jws.MEDIA_TYPE, "Accept": accept},
                accept=range(400, 600),
            )
            self._nonce = answer.headers.get("Replay-Nonce", "")
            if answer.is_success:
                return answer
            refusal = self._refusal(answer, where)
            if refusal.problem.kind != "badNonce":
                raise refusal
        raise refusal

    async def _fresh_nonce(self) -> str:
        nonce, self._nonce = self._nonce, ""
        if not nonce:
            url = check_url((await self.directory()).new_nonce)
            nonce = (await http.fetch(self._session, "HEAD", url)).headers.get("Replay-Nonce", "")
        if not nonce or not nonce.isascii() or len(nonce) > 1000:
            raise TrustError("the CA gave no nonce")
        return nonce

    async def _get(self, url: str, where: str) -> httpx.Response:
        answer = await http.fetch(self._session, "GET", check_url(url), accept=range(400, 600))
        if not answer.is_success:
            raise self._refusal(answer, where)
        return answer

    def _refusal(self, answer: httpx.Response, where: str) -> CaRefusal:
        problem = read_problem(answer.content, answer.status_code)
        terms = links(", ".join(answer.headers.get_list("Link")), "terms-of-service")
        return CaRefusal(problem, http.retry_after(answer), where, terms[0] if terms else "")

    def _location(self, answer: httpx.Response) -> str:
        location = answer.headers.get("Location", "")
        if not location:
            raise TrustError("the CA's answer does not name what it made (Location)")
        return check_url(str(answer.url.join(location)))


def ask_again_after(told: timedelta | None, default: timedelta, longest: timedelta = timedelta(hours=1)) -> timedelta:
    """How long to wait: what the CA says, within reason."""
    return min(max(told, timedelta(seconds=1)), longest) if told is not None else default


def epoch(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())
