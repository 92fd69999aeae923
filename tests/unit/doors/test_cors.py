from __future__ import annotations

import pytest

from certctl import settings
from certctl.core.errors import Misconfigured
from certctl.doors.cors import SIGNED, cors_headers, preflight

LISTED = ("https://ui.example",)
ASKS = {"access-control-request-method": "POST"}


def test_deny_is_the_default():
    assert cors_headers({"origin": "https://ui.example"}, ()) == []
    assert preflight("OPTIONS", ASKS | {"origin": "https://ui.example"}, ()) is None


@pytest.mark.parametrize(
    "origin",
    ["", "null", "*", "https://ui.example.evil", "http://ui.example", "https://UI.example", "https://ui.example:8443"],
)
def test_another_origin_gets_nothing(origin):
    assert cors_headers({"origin": origin}, LISTED) == [(b"vary", b"Origin")]
    assert preflight("OPTIONS", ASKS | {"origin": origin}, LISTED) is None


def test_a_listed_one_is_named_and_told_what_it_may_send():
    given = dict(cors_headers({"origin": "https://ui.example"}, LISTED))
    assert given[b"access-control-allow-origin"] == b"https://ui.example"
    assert given[b"vary"] == b"Origin"
    told = dict(preflight("OPTIONS", ASKS | {"origin": "https://ui.example"}, LISTED))
    assert b"X-CSRF-Token" in told[b"access-control-allow-headers"]
    assert b"DELETE" in told[b"access-control-allow-methods"]
    assert preflight("GET", ASKS | {"origin": "https://ui.example"}, LISTED) is None
    assert preflight("OPTIONS", {"origin": "https://ui.example"}, LISTED) is None


@pytest.mark.parametrize(
    "value", ["*", "https://*.example", "ui.example", "https://ui.example/", "https://a.example/x", "ftp://a"]
)
def test_origins_that_are_refused_at_the_start(value):
    with pytest.raises(Misconfigured, match="CERTCTL_CORS_ORIGINS"):
        settings.load({"CERTCTL_CORS_ORIGINS": value})


def test_door_settings():
    read = settings.load(
        {
            "CERTCTL_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "CERTCTL_TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32,192.0.2.7",
            "CERTCTL_RATE_LIMIT_RPS": "5",
            "CERTCTL_RATE_LIMIT_BURST": "7",
            "CERTCTL_BREAKGLASS_ENABLED": "yes",
            "CERTCTL_SESSION_SAMESITE": "Strict",
        }
    ).doors
    assert read.cors_origins == ("https://a.example", "http://localhost:3000")
    assert [str(net) for net in read.trusted_proxies] == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]
    assert (read.limits.address.per_second, read.limits.address.burst) == (5, 7)
    assert (read.limits.caller.per_second, read.limits.caller.burst) == (50, 70)
    assert read.limits.enabled
    assert not read.limits.shared
    assert read.breakglass.enabled
    assert read.sessions.same_site == "strict"
    assert "CERTCTL_RATE_LIMIT_RPS" in read.told()
    assert not settings.load({}).doors.breakglass.enabled
    assert settings.load({"CERTCTL_DATABASE_URL": "postgres://h/d"}).doors.limits.shared


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CERTCTL_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CERTCTL_TRUSTED_PROXIES", "proxy.example"),
        ("CERTCTL_RATE_LIMIT_RPS", "-1"),
        ("CERTCTL_RATE_LIMIT_RPS", "nan"),
        ("CERTCTL_RATE_LIMIT_RPS", "many"),
        ("CERTCTL_RATE_LIMIT_BURST", "0"),
        ("CERTCTL_RATE_LIMIT_BACKEND", "redis"),
        ("CERTCTL_RATE_LIMIT_BACKEND", "postgres"),
        ("CERTCTL_BREAKGLASS_ENABLED", "maybe"),
        ("CERTCTL_SESSION_SAMESITE", "None"),
        ("CERTCTL_SESSION_IDLE_TIMEOUT", "1s"),
        ("CERTCTL_RATE_LIMIT_RPS", "0"),
    ],
)
def test_door_settings_that_are_refused(name, value):
    with pytest.raises(Misconfigured, match=name):
        settings.load({name: value})


def test_where_signatures_speak_nobody_comes_with_credentials():
    for origins, allowed, varies in ((("*",), b"*", False), (("https://ui.example",), b"https://ui.example", True)):
        given = dict(cors_headers({"origin": "https://ui.example"}, origins, SIGNED))
        assert given[b"access-control-allow-origin"] == allowed
        assert (b"vary" in given) == varies
        assert b"access-control-allow-credentials" not in given
        assert preflight("OPTIONS", ASKS | {"origin": "https://ui.example"}, origins, SIGNED)
    assert cors_headers({"origin": "https://evil.example"}, ("https://ui.example",), SIGNED) == [(b"vary", b"Origin")]
    # where cookies open doors, `*` means nobody
    assert cors_headers({"origin": "https://evil.example"}, ("*",)) == [(b"vary", b"Origin")]
    assert preflight("OPTIONS", ASKS | {"origin": "https://evil.example"}, ("*",)) is None
