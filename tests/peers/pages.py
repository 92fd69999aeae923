"""Every page there is, from the routes themselves, so that none escapes those who look at all of them; what stands in one.

Tests give an id for each parameter of an address; a route whose parameter nobody knows fails there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from certctl.web.app import page_list
from certctl.web.guard import PERMISSION

# a file is no page
_NO_PAGES = frozenset({"/static/{digest:str}/{name:str}"})
_PARAMETER = re.compile(r"\{([a-z_]+):[a-z]+\}")
# where the API lists what a page's address names, by the first word of the address
LISTS: Mapping[str, str] = {
    **{word: f"/api/v1/{word}" for word in ("agents", "approvals", "certificates", "jobs", "notifications", "issuers")},
    **{word: f"/api/v1/{word}" for word in ("targets", "profiles", "renewal-policies", "policies", "agent-groups")},
    **{word: f"/api/v1/{word}" for word in ("notification-channels", "teams", "owners", "audit", "batches")},
    "health-checks": "/api/v1/health-checks",
    "keys": "/api/v1/auth/keys",
    "external-keys": "/api/v1/acme/external-account-keys",
    "roles": "/api/v1/auth/roles",
}


def templates(method: str = "GET") -> Iterator[tuple[str, str]]:
    """The address of each route that answers a method, as it is declared, with its permission."""
    for handler in page_list():
        if method in handler.http_methods:
            yield from ((path, handler.opt[PERMISSION]) for path in sorted(handler.paths) if path not in _NO_PAGES)


def every_page(ids: Mapping[str, str]) -> dict[str, str]:
    """Address by a name for its picture. `ids` has one for each first word, and one for each further parameter."""
    return {name_of(path): filled(path, ids) for path, _permission in templates()}


def filled(path: str, ids: Mapping[str, str]) -> str:
    """A route's address with ids in place of its parameters."""
    first = path.split("/")[1]

    def of(found: re.Match[str]) -> str:
        is_first = path[: found.start()].count("/") == 2
        return ids[first] if is_first and first in ids else ids[found[1]]

    return _PARAMETER.sub(of, path)


def name_of(path: str) -> str:
    """`/issuers/{record_id:str}/delete` as `issuers-one-delete`."""
    words = ["one" if word.startswith("{") else word for word in path.strip("/").split("/") if word]
    return "-".join(words) or "overview"


def first_of(answer: Mapping[str, Any], name: str = "") -> str:
    """The id of the first of a list, or of the one of a name."""
    (rows,) = [value for value in answer.values() if isinstance(value, list)]
    found = [row for row in rows if not name or row.get("name") == name]
    return str(found[0]["id"])


def intermediate_of(answer: Mapping[str, Any]) -> str:
    """The id of a CA that another stands above."""
    (rows,) = [value for value in answer.values() if isinstance(value, list)]
    return next(str(row["id"]) for row in rows if row.get("parent_ca_id"))


def allowed(path: str, method: str, permissions: frozenset[str]) -> bool:
    """Whether a caller with these permissions may go there; an address that no route of ours has counts as allowed."""
    for template, permission in templates(method):
        if re.fullmatch(_PARAMETER.sub("[^/]+", re.sub(r"[.]", r"\\.", template)), path):
            return permission in permissions or permission in {"public", "signed in"}
    return method == "GET"


class Looked(HTMLParser):
    """A page as it was sent: where it leads, what its enabled buttons send, and what a strict policy would refuse."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: set[str] = set()
        self.sends: set[str] = set()
        self.refused: list[str] = []
        self._action: list[str] = []
        self._disabled = 0
        self._fieldsets: list[bool] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.refused += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        # a link may lead away when somebody follows it; nothing else asks another host
        named = [given[name] for name in ("href", "src", "action", "formaction") if name in given]
        self.refused += [each for each in named if _is_script(each) or (tag != "a" and _is_foreign(each))]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.refused.append(f"<{tag}>")
        if tag == "a" and given.get("href", "").startswith("/"):
            self.links.add(given["href"].partition("?")[0].partition("#")[0])
        if tag == "fieldset":
            self._fieldsets.append("disabled" in given)
        if tag == "form":
            self._action.append(given.get("action", "") if given.get("method") == "post" else "")
        if tag == "button" and self._action and not any(self._fieldsets):
            self.sends |= {given.get("formaction") or self._action[-1]} - {""}

    def handle_endtag(self, tag: str) -> None:
        if tag == "fieldset" and self._fieldsets:
            self._fieldsets.pop()
        if tag == "form" and self._action:
            self._action.pop()


def _is_foreign(address: str) -> bool:
    return re.match(r"([a-z]+:)?//", address.lower()) is not None


def _is_script(address: str) -> bool:
    return re.match(r"[\s]*(javascript|data|vbscript):", address.lower()) is not None
