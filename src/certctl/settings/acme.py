"""Variables of the ACME server, with the reference product's names where it has them; and the rules they make."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from certctl.core.acme import CHALLENGE, TRUST_AUTHENTICATED, AcmeRules
from certctl.settings.variables import Variable, duration, flag, listed, number, origin, text, word


def _root(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.netloc or value.rstrip("/") != f"https://{parts.netloc}":
        raise ValueError("must be https://host or https://host:port")
    return value.rstrip("/")


def _origins(value: str) -> tuple[str, ...]:
    found = tuple(each for part in value.split(",") if (each := part.strip()))
    return found if found == ("*",) else tuple(origin(each) for each in found)


def _limit(name: str, meaning: str, default: int) -> Variable:
    return number(name, f"{meaning}; 0: no limit", default, low=0, high=1_000_000)


def _many(name: str, kind: str) -> Variable:
    return number(name, f"{kind} validations at once in a process", 10, low=1, high=1000)


ACME: dict[str, dict[str, Variable]] = {
    "ACME server": {
        "acme_enabled": flag("CERTCTL_ACME_SERVER_ENABLED", "the ACME server at /acme/; off, all of it is 404"),
        "acme_external_url": Variable(
            name="CERTCTL_ACME_SERVER_EXTERNAL_URL",
            meaning="`https://host:port` under which clients reach it, behind a proxy",
            kind="URL",
            read=_root,
            none="",
            shown="the name that a client used, if it is in CERTCTL_SERVER_NAMES",
        ),
        "acme_default_auth_mode": word(
            "CERTCTL_ACME_SERVER_DEFAULT_AUTH_MODE",
            "of profiles that say nothing: trust accounts that somebody vouched for, or ask for proof of control",
            (TRUST_AUTHENTICATED, CHALLENGE),
        ),
        "acme_default_profile_id": text(
            "CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID", "the profile behind /acme/directory; empty: none"
        ),
        "acme_eab_required": flag(
            "CERTCTL_ACME_SERVER_EAB_REQUIRED",
            "ask for an external account binding in challenge mode too; trust_authenticated always does",
        ),
        "acme_nonce_ttl": duration("CERTCTL_ACME_SERVER_NONCE_TTL", "how long a nonce is good", "5m", shortest="10s"),
        "acme_order_ttl": duration("CERTCTL_ACME_SERVER_ORDER_TTL", "how long an order waits", "24h", shortest="1m"),
        "acme_authorization_ttl": duration(
            "CERTCTL_ACME_SERVER_AUTHZ_TTL", "how long an authorization is good", "24h", shortest="1m"
        ),
        "acme_terms_of_service": text(
            "CERTCTL_ACME_SERVER_TOS_URL", "terms of service that new accounts have to agree to"
        ),
        "acme_website": text("CERTCTL_ACME_SERVER_WEBSITE", "told in the directory"),
        "acme_cors_origins": Variable(
            name="CERTCTL_ACME_SERVER_CORS_ORIGINS",
            meaning="origins whose pages may speak ACME from a browser, or `*` for all (RFC 8555 6.1); empty: none",
            kind="list, parted by commas",
            read=_origins,
            none=(),
        ),
        "acme_caa_identities": listed(
            "CERTCTL_ACME_SERVER_CAA_IDENTITIES",
            "names that stand for us in CAA records; given, challenge mode keeps to those records",
        ),
        "acme_ari_enabled": flag("CERTCTL_ACME_SERVER_ARI_ENABLED", "renewal information (RFC 9773)", default=True),
        "acme_ari_poll_interval": duration(
            "CERTCTL_ACME_SERVER_ARI_POLL_INTERVAL", "how often clients ask for it", "6h", shortest="1m"
        ),
        "acme_ari_explanation_url": text(
            "CERTCTL_ACME_SERVER_ARI_EXPLANATION_URL",
            "where people read why a certificate is to be replaced early; told when one was revoked, or a CA above it",
        ),
        "acme_orders_per_hour": _limit("CERTCTL_ACME_SERVER_RATE_LIMIT_ORDERS_PER_HOUR", "orders of an account", 100),
        "acme_concurrent_orders": _limit(
            "CERTCTL_ACME_SERVER_RATE_LIMIT_CONCURRENT_ORDERS", "orders of an account that have not ended", 5
        ),
        "acme_key_changes_per_hour": _limit(
            "CERTCTL_ACME_SERVER_RATE_LIMIT_KEY_CHANGE_PER_HOUR", "key changes of an account", 5
        ),
        "acme_responds_per_hour": _limit(
            "CERTCTL_ACME_SERVER_RATE_LIMIT_CHALLENGE_RESPONDS_PER_HOUR", "challenges an account answers", 60
        ),
        "acme_http01_concurrency": _many("CERTCTL_ACME_SERVER_HTTP01_CONCURRENCY", "http-01"),
        "acme_dns01_concurrency": _many("CERTCTL_ACME_SERVER_DNS01_CONCURRENCY", "dns-01"),
        "acme_tlsalpn01_concurrency": _many("CERTCTL_ACME_SERVER_TLSALPN01_CONCURRENCY", "tls-alpn-01"),
        "acme_resolver": text(
            "CERTCTL_ACME_SERVER_DNS01_RESOLVER",
            "`address:port` of the resolver that all validation asks",
            shown="those of this host",
        ),
        "acme_http_port": number("CERTCTL_ACME_SERVER_HTTP01_PORT", "port of http-01", 80, low=1, high=65535),
        "acme_tls_port": number("CERTCTL_ACME_SERVER_TLSALPN01_PORT", "port of tls-alpn-01", 443, low=1, high=65535),
        "acme_allowed_networks": listed(
            "CERTCTL_ACME_SERVER_ALLOWED_NETWORKS",
            "networks that are not public and may be validated in, such as 10.0.0.0/8",
        ),
        "acme_gc_interval": duration(
            "CERTCTL_ACME_SERVER_GC_INTERVAL", "how often lapsed nonces and orders are swept", "1m", shortest="1s"
        ),
    },
}


def acme_rules(values: dict[str, Any]) -> AcmeRules:
    """What the ACME server keeps to, out of the variables above; they are taken out of `values`."""
    took = {field: values.pop(field) for section in ACME.values() for field in section}
    rules = {field.removeprefix("acme_"): value for field, value in took.items()}
    return AcmeRules(**rules, host_names=tuple(name.lower().strip("[]") for name in values["public_names"]))
