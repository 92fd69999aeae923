"""The ACME issuer's errors, configuration and secrets, without a CA."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.base.config import decode_config, secret_fields
from certctl.connectors.dial import DialPolicy
from certctl.connectors.issuers.acme.config import AcmeConfig
from certctl.connectors.issuers.acme.problems import CaRefusal, error_of
from certctl.connectors.registry import check_issuer_config, issuer_config_schema, issuer_secrets
from certctl.connectors.solvers.rfc2136 import Rfc2136Solver, Zone
from certctl.connectors.solvers.script import allowed, read_environment
from certctl.connectors.zones import read_server
from certctl.core.errors import ConnectorError, Malformed, Misconfigured, Rejected, Temporary
from certctl.wire.acme_answers import Problem, read_problem
from certctl.wire.problem import PREFIX, ProblemType

DIRECTORY = {"directory_url": "https://ca.test/dir"}
RETRIED = {"badNonce", "orderNotReady", "accountDoesNotExist", "rateLimited", "serverInternal"}


@pytest.mark.parametrize("kind", list(ProblemType))
def test_every_kind_of_problem_says_what_to_do_next(kind):
    error = error_of(CaRefusal(Problem(kind, "because", 400), timedelta(hours=3), "ordering"))
    assert str(kind) in error.message
    assert "because" in error.message
    assert ";" in error.message, "what is to be done stands behind"
    assert isinstance(error, Temporary) == (kind in RETRIED), error
    if kind == "rateLimited":
        assert isinstance(error, Temporary)
        assert error.retry_after == timedelta(hours=3)
        assert error.cause == "rate_limited"


def test_subproblems_name_each_identifier():
    document = {
        "type": PREFIX + "malformed",
        "detail": "some are refused",
        "subproblems": [
            {
                "type": PREFIX + "rejectedIdentifier",
                "detail": "no",
                "identifier": {"type": "dns", "value": f"{number}.test"},
            }
            for number in range(12)
        ],
    }
    error = error_of(CaRefusal(read_problem(document, 400), None, "ordering"))
    assert "0.test: rejectedIdentifier (no)" in error.message
    assert "and 2 more" in error.message


@given(st.integers(100, 599), st.text(max_size=50), st.text(max_size=50))
def test_any_answer_becomes_an_error_of_ours(status, kind, detail):
    problem = read_problem({"type": kind, "detail": detail}, status)
    assert isinstance(error_of(CaRefusal(problem, None, "asking")), ConnectorError)


def test_who_has_to_act_is_sent_to_the_page():
    problem = Problem("userActionRequired", "new terms", 403, "https://ca.test/terms/2")
    assert "https://ca.test/terms/2" in error_of(CaRefusal(problem, None, "ordering")).message


def test_secrets_are_declared_and_never_read_back_from_the_schema():
    assert (
        secret_fields(AcmeConfig)
        == issuer_secrets("acme")
        == (
            "eab_hmac",
            "tsig_secret",
            "dns_script_environment",
            "dns_provider_secrets",
        )
    )
    assert issuer_secrets("local") == ()
    (schema,) = issuer_config_schema("ACME")["$defs"].values()
    assert schema["properties"]["tsig_secret"]["writeOnly"] is True


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "directory_url"),
        ({"directory_url": "http://ca.test/dir"}, "directory_url"),
        (DIRECTORY | {"eab_kid": "k"}, "belong together"),
        (DIRECTORY | {"challenge_type": "dns-01"}, "dns-01 needs"),
        (DIRECTORY | {"challenge_type": "tls-alpn-02"}, "challenge_type"),
        (DIRECTORY | {"challenge_type": "dns-01", "dns_server": "a", "dns_present_script": "b"}, "choose one"),
        (DIRECTORY | {"insecure": True}, "insecure"),
        (DIRECTORY | {"propagation_seconds": 1}, "propagation_seconds"),
    ],
)
def test_configurations_that_cannot_work_are_refused(config, said):
    with pytest.raises(Malformed, match=said):
        check_issuer_config("ACME", config)


def test_a_configuration_by_the_reference_products_names():
    config = decode_config(AcmeConfig, DIRECTORY | {"email": "a@b.test", "profile": "shortlived", "ari_enabled": False})
    assert (config.email, config.challenge_type) == ("a@b.test", "http-01")


def zone(**changes: object) -> Zone:
    given = {
        "server": "ns.test:5353",
        "name": "",
        "tsig_name": "up",
        "tsig_secret": "c2VjcmV0",
        "tsig_algorithm": "hmac-sha256",
        "watched": (),
        "resolver": "",
    }
    return Zone(**(given | changes))


@pytest.mark.parametrize("changes", [{"server": ""}, {"server": "ns.test:x"}, {"tsig_secret": "%"}, {"tsig_name": ""}])
def test_a_zone_that_cannot_be_updated_is_refused(changes):
    with pytest.raises(Misconfigured):
        Rfc2136Solver(zone(**changes), DialPolicy(purpose="test"))


@given(st.text(max_size=60))
def test_any_server_is_read_or_refused(text):
    try:
        host, port = read_server(text, "dns_server")
    except Misconfigured:
        return
    assert host
    assert 0 < port < 65536


def test_servers():
    assert read_server("ns.test", "x") == ("ns.test", 53)
    assert read_server("[2001:db8::1]:5353", "x") == ("2001:db8::1", 5353)
    assert read_server("2001:db8::1", "x") == ("2001:db8::1", 53)


def test_rejections_are_not_tried_again_by_themselves():
    assert isinstance(error_of(CaRefusal(Problem("caa", "", 403), None, "x")), Rejected)


@given(st.text(max_size=200))
def test_any_environment_is_read_or_refused(text):
    try:
        found = read_environment(text)
    except Misconfigured:
        return
    assert not {"PATH", "LD_PRELOAD", "CERTCTL_DNS_VALUE"} & set(found)


@pytest.mark.parametrize(
    "line",
    [
        "PATH=/tmp",
        "LD_PRELOAD=/tmp/x",
        "OPENSSL_CONF=/x",
        "JAVA_TOOL_OPTIONS=-x",
        "HOME=/x",
        "certctl_dns_value=x",
        "1A=b",
        "A B=c",
        "no",
    ],
)
def test_an_environment_does_not_choose_what_is_loaded(line):
    with pytest.raises(Misconfigured, match="dns_script_environment"):
        read_environment(f"TOKEN=x\n{line}\n")


def test_scripts_lie_in_one_folder_and_others_cannot_write_them(tmp_path):
    good = tmp_path / "good"
    good.write_text("#!/bin/sh\n")
    good.chmod(0o755)
    assert allowed(tmp_path, "good") == allowed(tmp_path, str(good)) == good
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "open").write_text("")
    (tmp_path / "open").chmod(0o777)
    for name in ("link", "open", "..", "../x", "/bin/sh", "sub/x", "none", "", "a\0b"):
        with pytest.raises(Misconfigured):
            allowed(tmp_path, name)
    tmp_path.chmod(0o777)
    with pytest.raises(Misconfigured, match="written by others"):
        allowed(tmp_path, "good")
