"""The ACME server (RFC 8555, 8737, 8738, 9773): a plain ASGI app under `/acme/`, off unless it is switched on.

Every profile has one of its own at `/acme/profile/{id}/`; that of the default profile stands at `/acme/` too. Whoever
asks is proven by their signature before a route sees them; what goes wrong is told in ACME's own problem documents.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from certctl.core.acme import AcmeRules
from certctl.core.errors import RateLimited
from certctl.core.ids import check_id
from certctl.doors.cors import SIGNED
from certctl.doors.edge import (
    Edge,
    HttpScope,
    Receive,
    Send,
    address_of,
    headers_of,
    note_refusal,
    request_id_of,
    send_answer,
)
from certctl.doors.entry import Visit
from certctl.doors.errors import Refusal
from certctl.doors.state import AppState
from certctl.protocols.acme import (
    accounts,
    authorizations,
    certificates,
    counting,
    directory,
    finalizing,
    orders,
    renewal,
)
from certctl.protocols.acme.crowding import Crowd
from certctl.protocols.acme.entering import About, House, enter, nothing
from certctl.protocols.acme.exchange import Place, Reply, header_lines, read_body, refuse
from certctl.protocols.acme.nonces import Nonces
from certctl.telemetry.tally import Tally
from certctl.wire.problem import AcmeRefusal, ProblemType

PREFIX = "/acme"
_MOST_PATH = 512
_HOST = re.compile(r"(?P<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

Route = Callable[..., Awaitable[Reply]]
# path after the profile -> (route, who signs: an account, a key, either, what is read with who asks)
_POSTS: dict[tuple[str, ...], tuple[Route, bool | None, About]] = {
    # RFC 8555 6.3: these two by GET, and by POST-as-GET as well
    ("directory",): (directory.show_signed, False, nothing),
    ("new-nonce",): (directory.nonce_signed, False, nothing),
    ("new-account",): (accounts.create, True, nothing),
    ("account", "*"): (accounts.show_or_change, False, nothing),
    ("account", "*", "orders"): (accounts.list_orders, False, nothing),
    ("new-order",): (orders.create, False, orders.about_new),
    ("order", "*"): (orders.show, False, orders.about),
    ("order", "*", "finalize"): (finalizing.finalize, False, finalizing.about),
    ("authz", "*"): (authorizations.show_or_give_up, False, authorizations.about),
    ("challenge", "*"): (authorizations.respond, False, nothing),
    ("cert", "*"): (certificates.download, False, certificates.about),
    ("cert", "*", "*"): (certificates.download, False, certificates.about),
    ("key-change",): (accounts.change_key, False, nothing),
    ("revoke-cert",): (certificates.revoke_certificate, None, nothing),
}
_GETS = {"directory", "new-nonce", "renewal-info"}


def serves(path: str) -> bool:
    """Whether a path is ACME's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


class AcmeApp:
    """The ASGI app."""

    def __init__(self, state: AppState, rules: AcmeRules, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._house = House(state, rules, Nonces(state.ctx.sealer, rules.nonce_ttl), Crowd())

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        place: Place | None = None
        try:
            place = self._place(scope)
            reply = await self._reply(scope, receive, place)
        except Exception as error:
            reply = refuse(error, request_id_of(scope))
        if place is not None:
            counting.count(self._tally, scope["method"], place.path, reply)
        await self._send(scope, send, place, reply)

    async def _send(self, scope: HttpScope, send: Send, place: Place | None, reply: Reply) -> None:
        method, path = scope["method"], place.path if place is not None else ""
        fresh = method == "POST" or path == "new-nonce"
        nonce = self._house.nonces.make(self._house.state.ctx.now()) if fresh and place is not None else ""
        index = place.at("directory") if place is not None and path != "directory" else ""
        headers = header_lines(reply, nonce, index)
        if reply.code:
            note_refusal(
                scope,
                Refusal(
                    status=reply.status, headers=(), body=reply.body, code=f"acme_{reply.code}", message=reply.message
                ),
            )
        if method == "HEAD":
            await send({"type": "http.response.start", "status": reply.status, "headers": _raw(headers)})
            await send({"type": "http.response.body", "body": b""})
            return
        await send_answer(send, reply.status, headers, reply.body)

    def _place(self, scope: HttpScope) -> Place:
        """Where a request stands, by its path and the name that it was sent to."""
        rules, path = self._house.rules, str(scope["path"])
        if not rules.enabled:
            raise AcmeRefusal(ProblemType.MALFORMED, "the ACME server is off (CERTCTL_ACME_SERVER_ENABLED)", status=404)
        if len(path) > _MOST_PATH or not path.isascii():
            raise AcmeRefusal(ProblemType.MALFORMED, "there is no such page", status=404)
        root, rest = self._root(scope), path.removeprefix(PREFIX).removeprefix("/")
        if rest.startswith("profile/"):
            profile_id, _, tail = rest.removeprefix("profile/").partition("/")
            # it stands in the links of every answer: nothing but an id may
            check_id(profile_id)
            return Place(profile_id, f"{root}{PREFIX}/profile/{profile_id}", tail)
        if not rules.default_profile_id:
            detail = "there is no default profile; the addresses are /acme/profile/{id}/..."
            raise AcmeRefusal(ProblemType.USER_ACTION_REQUIRED, detail)
        return Place(rules.default_profile_id, f"{root}{PREFIX}", rest)

    def _root(self, scope: HttpScope) -> str:
        """`https://host`: ours by setting, or the name it was sent to if that is one of ours.

        A request that was signed for another server's address must not be good here because its Host says so.
        """
        if self._house.rules.external_url:
            return self._house.rules.external_url
        host = headers_of(scope).get("host", "").lower()
        form = _HOST.fullmatch(host)
        name = form["name"].strip("[]") if form else ""
        if name not in self._house.rules.host_names:
            detail = "this name is not one of the server's (CERTCTL_SERVER_NAMES, CERTCTL_ACME_SERVER_EXTERNAL_URL)"
            raise AcmeRefusal(ProblemType.MALFORMED, detail, status=421)
        return f"https://{host}"

    async def _reply(self, scope: HttpScope, receive: Receive, place: Place) -> Reply:
        method, parts = scope["method"], tuple(place.path.split("/"))
        if parts[0] in _GETS and not (method == "POST" and parts in _POSTS):
            return await self._read(scope, place, parts)
        route = _route(parts)
        if route is None:
            raise AcmeRefusal(ProblemType.MALFORMED, "there is no such page", status=404)
        if method != "POST":
            # RFC 8555 6.3
            raise _not_allowed("POST")
        function, by_key, about, arguments = route
        body = await read_body(scope, receive)
        asked = await enter(self._house, scope, place, body, about(*arguments), by_key=by_key)
        return await function(asked, *arguments)

    async def _read(self, scope: HttpScope, place: Place, parts: tuple[str, ...]) -> Reply:
        """What anybody may read without signing."""
        if scope["method"] not in {"GET", "HEAD"}:
            raise _not_allowed("GET, HEAD")
        # RFC 8555 7.2
        nonce = Reply(status=200 if scope["method"] == "HEAD" else 204)
        try:
            await Visit(self._house.state, address_of(scope)).count()
        except RateLimited:
            # without these two no account could sign; without a look-up they cost what a refusal does
            kept = directory.repeat(self._house, place) if parts == ("directory",) else None
            if kept is None and parts != ("new-nonce",):
                raise
            return kept or nonce
        if parts == ("directory",):
            return await directory.show(self._house, place)
        if parts == ("new-nonce",):
            await directory.check(self._house, place)
            return nonce
        if len(parts) == 2 and parts[0] == "renewal-info":
            return await renewal.show(self._house, place, parts[1])
        raise AcmeRefusal(ProblemType.MALFORMED, "there is no such page", status=404)


def _route(parts: tuple[str, ...]) -> tuple[Route, bool | None, About, list[str]] | None:
    for pattern, (function, by_key, about) in _POSTS.items():
        if len(pattern) == len(parts) and all(each in {"*", part} for each, part in zip(pattern, parts, strict=True)):
            arguments = [part for each, part in zip(pattern, parts, strict=True) if each == "*"]
            return (function, by_key, about, arguments) if all(arguments) else None
    return None


def _not_allowed(methods: str) -> AcmeRefusal:
    detail = f"this page takes {methods}"
    return AcmeRefusal(ProblemType.MALFORMED, detail, status=405, headers=(("allow", methods),))


def _raw(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def behind_its_edge(app: AcmeApp, state: AppState, rules: AcmeRules) -> Edge:
    """The app behind the layer that every door has, with ACME's words for refusals and its own for foreign pages."""
    return Edge(app, state, refuse_at_edge, (rules.cors_origins, SIGNED))


def refuse_at_edge(scope: HttpScope, error: BaseException) -> Refusal:
    """What the edge itself refuses (a body beyond all bounds), in ACME's words."""
    reply = refuse(error, request_id_of(scope))
    headers = tuple(header_lines(reply, "", ""))
    answer = Refusal(
        status=reply.status, headers=headers, body=reply.body, code=f"acme_{reply.code}", message=reply.message
    )
    return note_refusal(scope, answer)
