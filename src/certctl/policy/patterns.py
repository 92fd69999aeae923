r"""Patterns of names as people write them into a profile, and whether a canonical name matches one.

    www.example.com      that DNS name          10.0.0.0/8             an IP address of that network
    *.example.com        one label before it    *@example.com          an e-mail address of that domain
    **.example.com       one label or more      spiffe://td/ns/*/**    a URI; * within a path segment, ** across
    re:[a-z]+\.corp     the whole name, bounded in length and in quantifiers

A wildcard name counts as the label `*`. A pattern that cannot be read raises Malformed; it never matches by accident.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from typing import TypeAlias

from certctl.core.errors import Malformed, Violation
from certctl.core.names import Name, NameKind, canonical_dns, parse_name

Matcher: TypeAlias = Callable[[Name], bool]

MAX_PATTERN_CHARACTERS = 200
MAX_REGEX_SUBJECT_CHARACTERS = 253
MAX_URI_CHARACTERS = 512
# Python's regex engine backtracks: the work grows with the subject's length to the power of the quantifiers. Three on
# these lengths are at worst some millions of steps; more, or one inside another, could hold a worker for hours.
MAX_REGEX_QUANTIFIERS = 3
MAX_REGEX_ALTERNATIVES = 8

_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?+\]?+(?:\\.|[^\]\\])*\]")
# Python warns that these will one day mean nested sets and set operations.
_CLASS_OF_THE_FUTURE = re.compile(r"(?<!\\)\[|--|&&|\|\||~~")
_GROUP_REPEATED = re.compile(r"\)[*+{]")
_GLOB_PART = re.compile(r"\*\*|\*|[^*]+")


def matches(pattern: str, name: Name) -> bool:
    """Whether `name` is one that `pattern` means. Raises Malformed for a pattern that cannot be read."""
    return compile_pattern(pattern)(name)


def check_pattern(pattern: str, field: str = "required_san_patterns") -> None:
    """Raise Malformed unless `pattern` can be read: for whoever writes a profile."""
    try:
        compile_pattern(pattern)
    except Malformed as error:
        violation = Violation("pattern_has_wrong_form", error.message, field)
        raise Malformed(error.message, violations=(violation,)) from error


@functools.lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Matcher:
    """The function that a pattern stands for. Raises Malformed."""
    text = pattern.strip()
    if not text or len(text) > MAX_PATTERN_CHARACTERS:
        raise _fault(pattern, f"it must have 1 to {MAX_PATTERN_CHARACTERS} characters")
    if text.startswith("re:"):
        return _regex(text.removeprefix("re:"))
    if "://" in text:
        return _uri(text)
    if "@" in text:
        return _email(text)
    if "/" in text or _is_address(text):
        return _network(text)
    return _dns(text)


def glob(pattern: str) -> re.Pattern[str]:
    """`*` stands for one path segment or a part of one, `**` for anything; all else is taken as written."""
    wild = {"*": "[^/]+", "**": ".+"}
    parts = _GLOB_PART.findall(pattern)
    if sum(part in wild for part in parts) > MAX_REGEX_QUANTIFIERS:
        raise _fault(pattern, f"it may have at most {MAX_REGEX_QUANTIFIERS} wildcards")
    return re.compile("".join(wild.get(part) or re.escape(part) for part in parts))


def _regex(text: str) -> Matcher:
    bare = _ESCAPE_OR_CLASS.sub("x", text)
    if "[" in bare:
        raise _fault(text, "a character class is not closed")
    if "(?" in bare.replace("(?:", "("):
        raise _fault(text, "(?...) groups other than (?:...) are not allowed")
    if _GROUP_REPEATED.search(bare):
        raise _fault(text, "a group may not be repeated")
    if any(_CLASS_OF_THE_FUTURE.search(part[1:]) for part in _ESCAPE_OR_CLASS.findall(text) if part.startswith("[")):
        raise _fault(text, "write \\[, \\-, \\&, \\| and \\~ within a class")
    if re.search(r"\\[1-9]", text):
        raise _fault(text, "back-references are not allowed")
    quantifiers = re.findall(r"[*+?]|\{\d*,?\d*\}", bare.replace("(?:", "("))
    if len(quantifiers) > MAX_REGEX_QUANTIFIERS or bare.count("|") >= MAX_REGEX_ALTERNATIVES:
        raise _fault(
            text, f"at most {MAX_REGEX_QUANTIFIERS} quantifiers and {MAX_REGEX_ALTERNATIVES} alternatives are allowed"
        )
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _fault(text, f"it is no regular expression: {error}") from error
    return lambda name: len(name.value) <= MAX_REGEX_SUBJECT_CHARACTERS and compiled.fullmatch(name.value) is not None


def _uri(text: str) -> Matcher:
    scheme, _, rest = text.removeprefix("uri:").partition("://")
    compiled = glob(f"{scheme.lower()}://{rest}")
    return lambda name: (
        name.kind is NameKind.URI
        and len(name.value) <= MAX_URI_CHARACTERS
        and compiled.fullmatch(name.value) is not None
    )


def _email(text: str) -> Matcher:
    local, _, domain = text.removeprefix("email:").rpartition("@")
    in_domain = _dns(domain)

    def match(name: Name) -> bool:
        if name.kind is not NameKind.EMAIL:
            return False
        name_local, _, name_domain = name.value.rpartition("@")
        return local in {"*", name_local} and in_domain(Name(NameKind.DNS, name_domain))

    if local != "*":
        parse_name(f"email:{local}@example.com")
    return match


def _is_address(text: str) -> bool:
    try:
        return parse_name(text).kind is NameKind.IP
    except Malformed:
        return False


def _network(text: str) -> Matcher:
    try:
        network = ipaddress.ip_network(text.removeprefix("ip:"))
    except ValueError as error:
        raise _fault(text, f"it is no network: {error}") from error

    def match(name: Name) -> bool:
        return name.kind is NameKind.IP and ipaddress.ip_address(name.value) in network

    return match


def _dns(text: str) -> Matcher:
    text = text.removeprefix("dns:")
    if text in {"*", "**"}:
        deep = text == "**"
        return lambda name: name.kind is NameKind.DNS and (deep or "." not in name.value)
    for lead, deep in (("**.", True), ("*.", False)):
        if text.startswith(lead):
            base = canonical_dns(text.removeprefix(lead))
            if base.startswith("*"):
                raise _fault(text, "only its front may be a wildcard")
            return _below(base, deep=deep)
    exact = canonical_dns(text)
    return lambda name: name.kind is NameKind.DNS and name.value == exact


def _below(base: str, *, deep: bool) -> Matcher:
    def match(name: Name) -> bool:
        if name.kind is not NameKind.DNS or not name.value.endswith(f".{base}"):
            return False
        front = name.value.removesuffix(f".{base}")
        return bool(front) and (deep or "." not in front)

    return match


def _fault(pattern: str, why: str) -> Malformed:
    message = f"pattern {pattern[:80]!r} cannot be used: {why}"
    return Malformed(message, violations=(Violation("pattern_has_wrong_form", message, "required_san_patterns"),))
