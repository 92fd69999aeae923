"""Does an agent belong to a group? Each criterion that a group has must fit; a group without one has only members
that were enrolled into it.

    os, architecture   the word, in any case; `*` stands for any run of characters
    ip_cidr            a network or one address, IPv4 or IPv6; an IPv4-mapped address is the IPv4 one (RFC 4291 2.5.5)
    version            `2.1.0`, `2.1.*`, or bounds that all hold: `>=2.1, <3, !=2.4.1`; 2.1.0-rc1 is below 2.1.0

Pure. A criterion that cannot be read raises Malformed when it is written, and fits nobody when it is asked.
"""

from __future__ import annotations

import functools
import ipaddress
import operator
import re
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from certctl.core.errors import Malformed, Violation

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Order: TypeAlias = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]

MAX_WORD_CHARACTERS = 100
MAX_VERSION_CHARACTERS = 200
MAX_WILDCARDS = 3
MAX_BOUNDS = 8
_NUMBERS = 4

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+[0-9A-Za-z.-]{1,64})?")
_PREFIX = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,2})\.\*")
_BOUND = re.compile(r"(>=|<=|!=|==|=|>|<)?\s*(\S+)")
_COMPARE: dict[str, Callable[[Order, Order], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "": operator.eq,
}


class Criteria(Struct, frozen=True, kw_only=True):
    """What a group asks of an agent; empty means that it does not ask."""

    os: str = ""
    architecture: str = ""
    ip_cidr: str = ""
    version: str = ""


class AgentFacts(Struct, frozen=True, kw_only=True):
    """What an agent says of itself."""

    os: str
    architecture: str
    ip_address: str
    version: str


def check_criteria(criteria: Criteria) -> None:
    """Raise Malformed with every criterion that cannot be read, named as the API names it."""
    violations: list[Violation] = []
    readers: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("match_os", criteria.os, _word),
        ("match_architecture", criteria.architecture, _word),
        ("match_ip_cidr", criteria.ip_cidr, network_of),
        ("match_version", criteria.version, _bounds),
    )
    for field, text, read in readers:
        try:
            if text:
                read(text)
        except Malformed as error:
            violations.append(Violation("criterion_has_wrong_form", f"{field}: {error.message}", field))
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))


def belongs(criteria: Criteria, agent: AgentFacts) -> bool:
    """Whether every criterion there is fits the agent; False when there is none."""
    if criteria == Criteria():
        return False
    try:
        return (
            (not criteria.os or _word(criteria.os).fullmatch(agent.os) is not None)
            and (not criteria.architecture or _word(criteria.architecture).fullmatch(agent.architecture) is not None)
            and (not criteria.ip_cidr or _is_within(agent.ip_address, network_of(criteria.ip_cidr)))
            and (not criteria.version or _keeps(agent.version, _bounds(criteria.version)))
        )
    except Malformed:
        return False


@functools.lru_cache(maxsize=1024)
def network_of(text: str) -> Network:
    """The network that a text names; a lone address is a network of one. Raises Malformed."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
        exact = ipaddress.ip_interface(text.strip()).ip == network.network_address
    except ValueError as error:
        raise Malformed(f"{text[:64]!r} is no network in CIDR form, such as 10.0.0.0/8 or 2001:db8::/32") from error
    if not exact:
        raise Malformed(f"{text[:64]!r} has bits set beyond its prefix; the network is {network}")
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _is_within(text: str, network: Network) -> bool:
    try:
        # a link-local address may carry the name of its interface (RFC 4007 11)
        address: Address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address) in network


@functools.lru_cache(maxsize=1024)
def _word(text: str) -> re.Pattern[str]:
    word = text.strip()
    if not word or len(word) > MAX_WORD_CHARACTERS or not word.isprintable():
        raise Malformed(f"it must be 1 to {MAX_WORD_CHARACTERS} printable characters")
    parts = re.split(r"\*+", word)
    if len(parts) - 1 > MAX_WILDCARDS:
        raise Malformed(f"it may have at most {MAX_WILDCARDS} wildcards")
    return re.compile(".*".join(map(re.escape, parts)), re.IGNORECASE | re.DOTALL)


Bound: TypeAlias = Callable[[Order], bool]


@functools.lru_cache(maxsize=1024)
def _bounds(text: str) -> tuple[Bound, ...]:
    if len(text) > MAX_VERSION_CHARACTERS:
        raise Malformed(f"it may have at most {MAX_VERSION_CHARACTERS} characters")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MAX_BOUNDS:
        raise Malformed(f"it may have at most {MAX_BOUNDS} bounds")
    return tuple(_bound(part) for part in parts)


def _bound(text: str) -> Bound:
    found = _BOUND.fullmatch(text)
    if found is None:
        raise Malformed(f"{text[:64]!r} is no bound, such as >=2.1 or 2.1.*")
    sign, version = found[1] or "", found[2]
    prefix = _PREFIX.fullmatch(version)
    if prefix is not None and sign in {"", "=", "==", "!="}:
        wanted = tuple(map(int, prefix[1].split(".")))
        return functools.partial(_begins, wanted, sign != "!=")
    compare, order = _COMPARE[sign], _order(version)
    return lambda present: compare(present, order)


def _begins(wanted: tuple[int, ...], expected: bool, present: Order) -> bool:
    return (present[0][: len(wanted)] == wanted) is expected


def _keeps(version: str, bounds: tuple[Bound, ...]) -> bool:
    present = _order(version)
    return all(bound(present) for bound in bounds)


def _order(version: str) -> Order:
    """What versions are ordered by (semver.org 11): numbers, then releases above pre-releases, then their parts."""
    found = _VERSION.fullmatch(version.strip())
    if found is None:
        raise Malformed(f"{version[:64]!r} is no version, such as 2.1.0")
    numbers = tuple(map(int, found[1].split(".")))
    numbers += (0,) * (_NUMBERS - len(numbers))
    if found[2] is None:
        return numbers, 1, ()
    parts = found[2].split(".")
    return (
        numbers,
        0,
        tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts),
    )
