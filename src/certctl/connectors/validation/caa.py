"""CAA records (RFC 8659): whom a domain lets issue; for which accounts and by which challenges (RFC 8657).

The first set of records found from the name upwards counts. What cannot be looked up or understood forbids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from certctl.wire.problem import AcmeRefusal, ProblemType

_CRITICAL = 128
_KNOWN = frozenset({"issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc"})
_ISSUE, _WILD = "issue", "issuewild"
Record = tuple[int, str, str]


class Asked(Struct, frozen=True, kw_only=True):
    """Who would issue: our names, the account by its addresses' paths, the challenge that proved control."""

    identities: Sequence[str]
    wildcard: bool
    method: str
    root: str
    account_paths: Sequence[str]


class LooksUp(Protocol):
    """Where records come from."""

    async def caa(self, name: str) -> list[Record]:
        """CAA records of one name."""
        ...


async def check(resolver: LooksUp, name: str, asked: Asked) -> None:
    """Return when issuing is allowed. Raises AcmeRefusal (caa, or dns when it could not be looked up)."""
    labels = name.split(".")
    for start in range(len(labels)):
        where = ".".join(labels[start:])
        records = await resolver.caa(where)
        if records:
            if not allows(records, asked):
                raise AcmeRefusal(ProblemType.CAA, f"the CAA records at {where} do not allow this certificate")
            return


def allows(records: Sequence[Record], asked: Asked) -> bool:
    """Whether a set of records lets us issue."""
    if any(flags & _CRITICAL and tag not in _KNOWN for flags, tag, _ in records):
        return False
    wild = [value for _, tag, value in records if tag == _WILD]
    plain = [value for _, tag, value in records if tag == _ISSUE]
    relevant = wild if asked.wildcard and wild else plain
    return not relevant or any(_permits(value, asked) for value in relevant)


def _permits(value: str, asked: Asked) -> bool:
    domain, *parameters = (part.strip() for part in value.split(";"))
    if domain.lower().rstrip(".") not in {identity.lower() for identity in asked.identities}:
        return False
    seen: set[str] = set()
    for parameter in filter(None, parameters):
        name, equals, text = parameter.partition("=")
        name, text = name.strip().lower(), text.strip()
        # RFC 8657 3, 4: a parameter that comes twice or cannot be read lets nobody issue
        if not equals or name in seen:
            return False
        seen.add(name)
        if name == "accounturi" and not _is_account(text, asked):
            return False
        if name == "validationmethods" and asked.method not in {each.strip() for each in text.split(",")}:
            return False
    return True


def _is_account(text: str, asked: Asked) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    if parts.scheme != "https" or (asked.root and f"https://{parts.netloc}" != asked.root):
        return False
    return parts.path in asked.account_paths and not parts.query
