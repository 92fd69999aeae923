"""Whole documents and parts of them over HTTP: entity tags, dates, one byte range (RFC 9110 8.8, 13, 14).

Must never join bytes of two documents: a range is given only of the document that `If-Range` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from msgspec import Struct

from certctl.protocols.pki.answers import Reply

# RFC 9110 14.1.1; ten digits are 10 GB, which no document of ours has
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,10})-(\d{0,10})\s*", re.IGNORECASE)


class Document(Struct, frozen=True):
    """What lies at an address: `etag` is strong, quoted; `modified` on whole seconds, None when nobody knows it."""

    body: bytes
    content_type: str
    etag: str
    modified: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()


def serve(method: str, headers: Mapping[str, str], document: Document) -> Reply:
    """200 with all of it, 206 with the range that was asked for, 304 when the client has it, 416 beyond its end."""
    told = (*document.headers, ("etag", document.etag))
    if document.modified is not None:
        told = (*told, ("last-modified", http_date(document.modified)))
    if _client_has_it(method, headers, document):
        return Reply(304, "", b"", told)
    told = (*told, ("accept-ranges", "bytes"))
    length = len(document.body)
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    # several ranges, or a unit that is not ours: all of it, as RFC 9110 14.2 lets us
    if method != "GET" or asked is None or not _is_same(headers.get("if-range", ""), document):
        return Reply(200, document.content_type, document.body, told)
    first, last = _bounds(asked[1], asked[2], length)
    if first is None:
        return Reply(200, document.content_type, document.body, told)
    if first >= length or last < first:
        return Reply(416, "text/plain; charset=utf-8", b"", (*told, ("content-range", f"bytes */{length}")))
    told = (*told, ("content-range", f"bytes {first}-{last}/{length}"))
    return Reply(206, document.content_type, document.body[first : last + 1], told)


def _bounds(first: str, last: str, length: int) -> tuple[int | None, int]:
    """First and last octet; None for a range that is none (`-`, or one that ends before it begins)."""
    if not first:
        # the last so many octets; of an empty suffix there are none
        return (None if not last else max(0, length - int(last)) if int(last) else length), length - 1
    if last and int(last) < int(first):
        return None, 0
    return int(first), min(int(last), length - 1) if last else length - 1


def _client_has_it(method: str, headers: Mapping[str, str], document: Document) -> bool:
    if method not in {"GET", "HEAD"}:
        return False
    tags = headers.get("if-none-match")
    if tags is not None:  # RFC 9110 13.1.3: the date counts only without tags
        wanted = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return document.etag in wanted or "*" in wanted
    since = _date(headers.get("if-modified-since", ""))
    return since is not None and document.modified is not None and document.modified <= since


def _is_same(condition: str, document: Document) -> bool:
    """RFC 9110 13.1.5: without If-Range, or when it names this very document by its strong tag or its exact date."""
    condition = condition.strip()
    if not condition or condition == document.etag:
        return True
    return document.modified is not None and _date(condition) == document.modified


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def http_date(moment: datetime) -> str:
    """An HTTP date (RFC 9110 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
