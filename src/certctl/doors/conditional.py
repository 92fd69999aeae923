"""Conditional requests (RFC 9110 13): an ETag on every JSON answer to a GET, 304 when the client has it, `If-Match`.

A tag is `"<row version>-<hash of the body>"`, or the hash alone where there is no one row. `If-Match` is judged by
the row version, in the UPDATE itself: what was edited meanwhile is not overwritten (412). It is never required.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus

import msgspec

from certctl.core.errors import Malformed, Violation
from certctl.core.revision import Expected
from certctl.doors.edge import AsgiApp, HttpScope, Message, Receive, Send, headers_of

# a longer answer goes out as it comes, without a tag
_MOST_BYTES = 8 * 1024 * 1024
_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
_VERSION = re.compile(r"([0-9]{1,9})(?:-[0-9a-f]*)?")


class _Row(msgspec.Struct):
    row_version: int = 0


def read_if_match(text: str | None) -> Expected:
    """The row versions that `If-Match` names; empty when it names none that a row could have. Malformed otherwise.

    A weak tag never matches (RFC 9110 8.8.3.2), and `*` is whatever is there.
    """
    if text is None or text.strip() == "*":
        return None
    versions = (_VERSION.fullmatch(tag) for weak, tag in _tags(text, "If-Match") if not weak)
    return frozenset(int(version[1]) for version in versions if version)


def _tags(text: str, header: str) -> list[tuple[bool, str]]:
    found, at = [], 0
    while at < len(text):
        tag = _TAG.match(text, at)
        if tag is None:
            message = f'{header} is * or a list of tags in quotes, such as "7"'
            raise Malformed(message, violations=(Violation("etag_has_wrong_form", message, header),))
        found.append((tag[1] is not None, tag[2]))
        at = tag.end()
    return found


def has_it(text: str, tag: str) -> bool:
    """Whether `If-None-Match` names this tag: weak comparison. What cannot be read names nothing."""
    if text.strip() == "*":
        return True
    try:
        return any(known == tag for _, known in _tags(text, "If-None-Match"))
    except Malformed:
        return False


class Conditional:
    """Wraps an ASGI app: gathers the JSON answer to a GET, tags it, and sends 304 in its place when it is known."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _Tagger(headers_of(scope).get("if-none-match", ""), send).send)


class _Tagger:
    """Holds one answer back until it is whole."""

    def __init__(self, known: str, send: Send) -> None:
        self._known = known
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_tagged(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if len(self._body) > _MOST_BYTES:
                await self._let_go(more=message.get("more_body", False))
            elif not message.get("more_body", False):
                await self._finish()

    async def _finish(self) -> None:
        start, body = self._start, bytes(self._body)
        if start is None:
            return
        tag = _tag_of(body)
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"etag"]
        headers.append((b"etag", f'"{tag}"'.encode()))
        if not any(name.lower() == b"cache-control" for name, _ in headers):
            # what one caller may see is kept by no cache in between, and asked for anew each time
            headers += [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization, Cookie")]
        if self._known and has_it(self._known, tag):
            left_out = {b"content-length", b"content-type"}
            headers = [pair for pair in headers if pair[0].lower() not in left_out]
            start, body = {**start, "status": HTTPStatus.NOT_MODIFIED.value}, b""
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _let_go(self, *, more: bool) -> None:
        start, self._start = self._start, None
        if start is not None:
            await self._send(start)
            await self._send({"type": "http.response.body", "body": bytes(self._body), "more_body": more})


def _is_tagged(start: Message) -> bool:
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return start["status"] == HTTPStatus.OK and bool(kinds) and kinds[0].startswith(b"application/json")


def _tag_of(body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()[:32]
    try:
        version = msgspec.json.decode(body, type=_Row).row_version
    except msgspec.MsgspecError:
        version = 0
    return f"{version}-{digest}" if version > 0 else digest
