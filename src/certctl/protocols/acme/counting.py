"""What the ACME server counts of itself: each request of a kind once, refused ones under a name of their own as well.

Counted in the process and written every few seconds (`telemetry.tally`): answering writes nothing for it.
"""

from __future__ import annotations

from msgspec import Struct

from certctl.protocols.acme.exchange import Reply
from certctl.telemetry import metrics
from certctl.telemetry.metrics import Metric
from certctl.telemetry.tally import Tally
from certctl.wire.problem import ProblemType


class Counted(Struct, frozen=True):
    """Two counters of one kind of request; there is none of refusals where the reference product has none."""

    asked: Metric
    refused: Metric | None = None


_DIRECTORY = Counted(metrics.ACME_DIRECTORY, metrics.ACME_DIRECTORY_FAILURES)
_UPDATE = Counted(metrics.ACME_UPDATE_ACCOUNT, metrics.ACME_UPDATE_ACCOUNT_FAILURES)
_DOWNLOAD = Counted(metrics.ACME_CERT_DOWNLOAD, metrics.ACME_CERT_DOWNLOAD_FAILURES)
# by the path behind the profile; `*` is any one part
_KINDS: dict[tuple[str, ...], Counted] = {
    ("directory",): _DIRECTORY,
    ("new-nonce",): Counted(metrics.ACME_NEW_NONCE, metrics.ACME_NEW_NONCE_FAILURES),
    ("renewal-info", "*"): Counted(metrics.ACME_RENEWAL_INFO, metrics.ACME_RENEWAL_INFO_FAILURES),
    ("new-account",): Counted(metrics.ACME_NEW_ACCOUNT, metrics.ACME_NEW_ACCOUNT_FAILURES),
    ("account", "*"): _UPDATE,
    ("new-order",): Counted(metrics.ACME_NEW_ORDER, metrics.ACME_NEW_ORDER_FAILURES),
    ("order", "*", "finalize"): Counted(metrics.ACME_FINALIZE_ORDER, metrics.ACME_FINALIZE_ORDER_FAILURES),
    ("authz", "*"): Counted(metrics.ACME_AUTHZ_READ),
    ("challenge", "*"): Counted(metrics.ACME_CHALLENGE_RESPOND, metrics.ACME_CHALLENGE_RESPOND_FAILURES),
    ("cert", "*"): _DOWNLOAD,
    ("cert", "*", "*"): _DOWNLOAD,
    ("key-change",): Counted(metrics.ACME_KEY_CHANGE, metrics.ACME_KEY_CHANGE_FAILURES),
    ("revoke-cert",): Counted(metrics.ACME_REVOKE_CERT, metrics.ACME_REVOKE_CERT_FAILURES),
}
_REFUSED_ORDERS = frozenset({ProblemType.REJECTED_IDENTIFIER, ProblemType.INVALID_PROFILE})


def count(tally: Tally, method: str, path: str, reply: Reply) -> None:
    """Count one answer; `path` is what follows the profile."""
    parts = tuple(path.split("/"))
    kind = next((counted for pattern, counted in _KINDS.items() if _fits(pattern, parts)), None)
    if kind is None or method not in {"GET", "HEAD", "POST"}:
        return
    tally.count(kind.asked)
    if reply.status >= 400:
        if kind.refused is not None:
            tally.count(kind.refused)
        if parts == ("new-order",) and reply.code in _REFUSED_ORDERS:
            tally.count(metrics.ACME_NEW_ORDER_REJECTED)
    elif parts == ("new-account",) and reply.status == 200:
        tally.count(metrics.ACME_NEW_ACCOUNT_IDEMPOTENT)


def _fits(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return len(pattern) == len(parts) and all(each in {"*", part} for each, part in zip(pattern, parts, strict=True))
