"""A page's request: its caller, how far their permissions reach, and the fields of its form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.datastructures import State
from msgspec import Struct

from certctl.core.errors import Malformed, UnsupportedMediaType, Violation
from certctl.core.scope import Scope
from certctl.doors.cookies import CSRF_COOKIE, CSRF_HEADER, check_csrf
from certctl.doors.counted import Counted
from certctl.doors.edge import headers_of
from certctl.doors.identity import Caller
from certctl.doors.known import Known
from certctl.web.guard import PERMISSION

CSRF_FIELD = "csrf"
ONCE_FIELD = "once"
OWN_FIELDS = frozenset({CSRF_FIELD, ONCE_FIELD})
_MOST_FIELDS = 2000
_FORM = "application/x-www-form-urlencoded"


class Fields(Struct, frozen=True):
    """The fields of a form, in the order they were sent."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, otherwise: str = "") -> str:
        """The first value of a field, without blanks around it."""
        return next((value.strip() for each, value in self.pairs if each == name), otherwise)

    def raw(self, name: str) -> str:
        """The first value as it was typed: a secret keeps its blanks."""
        return next((value for each, value in self.pairs if each == name), "")

    def every(self, name: str) -> list[str]:
        """All values of a field that are not empty."""
        return [value.strip() for each, value in self.pairs if each == name and value.strip()]

    def without(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The other fields."""
        left_out = set(names)
        return tuple(pair for pair in self.pairs if pair[0] not in left_out)


class WebRequest(Request[Any, Any, State], Known):
    """One page."""

    @property
    def visible(self) -> Scope:
        """How far the permission that this page asks for reaches."""
        return self.seen_by(str(self.route_handler.opt.get(PERMISSION, "")))

    def may(self, permission: str) -> bool:
        """Whether the caller has a permission at all."""
        return self.known is not None and permission in self.known.permissions

    @property
    def counted(self) -> Counted:
        """What takes long to count, as it was counted last."""
        return self.door.counted

    @property
    def is_part(self) -> bool:
        """Whether htmx asks, for a part of the page."""
        return headers_of(self.edge_scope).get("hx-request") == "true"

    @property
    def here(self) -> str:
        """The path and query of this page."""
        query = self.scope.get("query_string", b"").decode("ascii", "replace")
        return self.scope["path"] + (f"?{query}" if query else "")

    async def sent(self) -> Fields:
        """The fields of a form; Malformed when they cannot be read."""
        media_type = headers_of(self.edge_scope).get("content-type", "").partition(";")[0].strip().lower()
        if media_type != _FORM:
            raise UnsupportedMediaType(f"send a form as {_FORM}")
        try:
            text = (await self.body()).decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        except (UnicodeError, ValueError) as error:
            raise Malformed("the form cannot be read") from error
        if any("\0" in part for pair in pairs for part in pair):
            message = "a form holds no NUL character"
            raise Malformed(message, violations=(Violation("nul_character", message),))
        return Fields(tuple(pairs))

    async def checked(self) -> Fields:
        """The fields of a form that proves that our own page sent it; NotAllowed otherwise."""
        fields = await self.sent()
        self.check(self.caller, fields.raw(CSRF_FIELD) or headers_of(self.edge_scope).get(CSRF_HEADER, ""))
        return fields

    def check(self, caller: Caller, said: str) -> None:
        """NotAllowed unless `said` is the token of the caller's session."""
        check_csrf(caller.csrf_hash, self.knock.method, {CSRF_HEADER: said})

    @property
    def csrf(self) -> str:
        """What our forms carry: the value of the cookie, which no other site can read."""
        return self.cookies.get(CSRF_COOKIE, "")
