"""Rate limits that public CAs publish, as data: what is asked of one of them keeps within these before it says no.

By the host of the directory. `per` is what a limit counts: all new orders of an account, those for one exact set of
names, failures for one, or certificates under one registered domain that are no renewals. Where a CA publishes no
numbers, there are none here: its 429 and Retry-After are obeyed.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from msgspec import Struct


class Per(StrEnum):
    """What is counted."""

    ACCOUNT = "account"
    NAMES = "names"
    FAILURES = "failures"
    DOMAIN = "domain"


class Limit(Struct, frozen=True):
    """At most `number` within `window`."""

    per: Per
    number: int
    window: timedelta


class CaLimits(Struct, frozen=True, kw_only=True):
    """What one CA publishes; `source` on `as_of`. `staging_url` is its directory for trials; empty for none."""

    source: str
    as_of: str
    limits: tuple[Limit, ...] = ()
    staging_url: str = ""
    note: str = ""


_LETS_ENCRYPT = CaLimits(
    source="https://letsencrypt.org/docs/rate-limits/",
    as_of="2025-06-12",
    limits=(
        Limit(Per.ACCOUNT, 300, timedelta(hours=3)),
        Limit(Per.NAMES, 5, timedelta(days=7)),
        Limit(Per.FAILURES, 5, timedelta(hours=1)),
        Limit(Per.DOMAIN, 50, timedelta(days=7)),
    ),
    staging_url="https://acme-staging-v02.api.letsencrypt.org/directory",
    note="certificates under a registered domain are counted by the CA over all accounts, here over this "
    "installation's; renewals of the very same names do not count there, and those that name what they replace "
    "(RFC 9773) for nothing",
)
_GOOGLE = CaLimits(
    source="https://docs.cloud.google.com/certificate-manager/docs/quotas",
    as_of="2026-11-26",
    staging_url="https://dv.acme-v02.test-api.pki.goog/directory",
    note="quotas are a project's, and can be raised: none is assumed",
)
_ZERO_SSL = CaLimits(
    source="https://github.com/acmesh-official/acme.sh/wiki/ZeroSSL.com-CA",
    as_of="2026-11-26",
    note="no rate limits are published",
)

BY_HOST = {
    "acme-v02.api.letsencrypt.org": _LETS_ENCRYPT,
    "dv.acme-v02.api.pki.goog": _GOOGLE,
    "acme.zerossl.com": _ZERO_SSL,
}
UNKNOWN = CaLimits(source="", as_of="", note="no limits of this CA are known here")


def limits_of(directory_url: str) -> CaLimits:
    """What is known of the CA behind a directory."""
    return BY_HOST.get(host_of(directory_url), UNKNOWN)


def host_of(directory_url: str) -> str:
    """The CA's host; empty for what is no address."""
    try:
        return urlsplit(directory_url).hostname or ""
    except ValueError:
        return ""
