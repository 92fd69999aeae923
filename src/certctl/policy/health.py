"""Is an endpoint healthy? What it served is judged by name, and its state follows from its looks and thresholds. Pure.

Every fault is named, the gravest first. A chain is trusted when it leads to a root that was handed in; which set of
roots that was is told. RFC 5280 6.1, RFC 9525 6 (names of services).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from certctl.core.errors import Malformed, TrustError
from certctl.core.health import FaultKind, HealthStatus
from certctl.core.names import Name, NameKind
from certctl.pki.certs import CertificateFacts, read_certificate
from certctl.pki.chain import MAX_CHAIN, verify_chain

_TRUSTED = "trusted"
# what people are told of, and how loudly
ALERTED: Mapping[HealthStatus, str] = {
    HealthStatus.DEGRADED: "warning",
    HealthStatus.DOWN: "critical",
    HealthStatus.CERT_MISMATCH: "critical",
}


UNSEEN = frozenset({FaultKind.REFUSED, FaultKind.LOOK_FAILED})


class Fault(Struct, frozen=True):
    """One thing that is wrong, in a word and in a sentence."""

    kind: FaultKind
    message: str


class Judged(Struct, frozen=True, kw_only=True):
    """What a served certificate says, what is wrong with it, and by whose roots its chain is trusted."""

    facts: CertificateFacts | None
    faults: tuple[Fault, ...]
    trusted_by: str = ""


class RootSet(Struct, frozen=True):
    """Roots (DER) under the word that tells whose they are, found by what they are called."""

    word: str
    by_subject: Mapping[bytes, tuple[bytes, ...]]


def root_set(word: str, roots_der: Iterable[bytes]) -> RootSet:
    """A set of roots; what cannot be read is left out."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for der in dict.fromkeys(roots_der):
        facts = _readable(der)
        if facts is not None:
            found[facts.subject_der] = (*found.get(facts.subject_der, ()), der)
    return RootSet(word, found)


def judge_served(
    leaf_der: bytes, chain_der: Sequence[bytes], name: str, anchors: Sequence[RootSet], at: datetime
) -> Judged:
    """Dates, name and chain of what was served under `name`. The first of `anchors` that it leads to is told."""
    try:
        facts = read_certificate(leaf_der)
    except Malformed as error:
        return Judged(facts=None, faults=(Fault(FaultKind.UNREADABLE, f"its certificate: {error.message}"),))
    faults: list[Fault] = []
    if at > facts.not_after:
        faults.append(Fault(FaultKind.EXPIRED, f"its certificate has expired at {facts.not_after.isoformat()}"))
    elif at < facts.not_before:
        message = f"its certificate is not valid before {facts.not_before.isoformat()}"
        faults.append(Fault(FaultKind.NOT_YET_VALID, message))
    if not covers(facts.names, name):
        told = ", ".join(str(each) for each in facts.names[:5]) or "no name at all"
        faults.append(Fault(FaultKind.WRONG_NAME, f"its certificate is for {told}, not for {name}"))
    trusted_by, why = _trusted(facts, chain_der, anchors, at if facts.not_before <= at <= facts.not_after else None)
    if why:
        faults.append(Fault(FaultKind.UNTRUSTED_CHAIN, why))
    return Judged(facts=facts, faults=tuple(faults), trusted_by=trusted_by)


def covers(names: Sequence[Name], name: str) -> bool:
    """Whether one of a certificate's names is that of the service; a `*` stands for one whole label, the first."""
    bare = name.strip("[]").rstrip(".").lower()
    try:
        address = str(ipaddress.ip_address(bare))
    except ValueError:
        known = {each.value for each in names if each.kind is NameKind.DNS}
        _, dot, domain = bare.partition(".")
        return bare in known or (bool(dot) and "." in domain and f"*.{domain}" in known)
    return any(each.kind is NameKind.IP and each.value == address for each in names)


def _trusted(
    facts: CertificateFacts, chain_der: Sequence[bytes], anchors: Sequence[RootSet], at: datetime | None
) -> tuple[str, str]:
    """By whose roots the chain is trusted, or why it is not. `at` is None for a leaf out of its time: then only the
    way up is looked for, at the last moment of the leaf.
    """
    moment = at or facts.not_after
    path = [facts]
    served = [read for der in list(chain_der)[: 2 * MAX_CHAIN] if (read := _readable(der)) is not None]
    why = ""
    while len(path) <= MAX_CHAIN:
        for anchor in anchors:
            why = _leads_to(path, anchor, moment) or why
            if why == _TRUSTED:
                return anchor.word, ""
        above = next((each for each in served if each not in path and each.subject_der == path[-1].issuer_der), None)
        if above is None:
            break
        path.append(above)
    if why:
        return "", f"its chain is not trusted: {why}"
    last = path[-1]
    if last.is_self_issued:
        return "", f"its chain ends at {last.subject!r}, which is no root that is trusted here"
    return "", f"no way from its chain to a trusted root: the certificate of {last.issuer!r} is neither sent nor known"


def _leads_to(path: Sequence[CertificateFacts], anchor: RootSet, at: datetime) -> str:
    """`_TRUSTED` when a root of this set is the last of the path or above it; else what is wrong on the way to the one
    that is; empty where none is.
    """
    last, why = path[-1], ""
    if last.certificate_der in anchor.by_subject.get(last.subject_der, ()):
        return _verified(path[:-1], last.certificate_der, at) if len(path) > 1 else _TRUSTED
    for root_der in anchor.by_subject.get(last.issuer_der, ()):
        why = _verified(path, root_der, at)
        if why == _TRUSTED:
            break
    return why


def _verified(path: Sequence[CertificateFacts], root_der: bytes, at: datetime) -> str:
    try:
        verify_chain(path[0].certificate_der, tuple(each.certificate_der for each in path[1:]), root_der, at)
    except TrustError as error:
        return error.message
    return _TRUSTED


def _readable(certificate_der: bytes) -> CertificateFacts | None:
    try:
        return read_certificate(certificate_der)
    except Malformed:
        return None


def next_status(
    status: HealthStatus, failures: int, fault: FaultKind | None, degraded_threshold: int, down_threshold: int
) -> tuple[HealthStatus, int]:
    """The state after one more look, and how many in a row were bad.

    Another certificate than the expected one reads so at once; every other fault has to be seen as often as the
    thresholds say, and until then the state stays what it was. Where certctl may not, or could not, look nothing is
    known.
    """
    if fault is None:
        return HealthStatus.HEALTHY, 0
    if fault in UNSEEN:
        return HealthStatus.UNKNOWN, 0
    failures += 1
    if fault is FaultKind.WRONG_CERTIFICATE:
        return HealthStatus.CERT_MISMATCH, failures
    if failures >= down_threshold:
        return HealthStatus.DOWN, failures
    if failures >= degraded_threshold:
        return HealthStatus.DEGRADED, failures
    return status, failures
