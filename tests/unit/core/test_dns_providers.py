"""What DNS providers take: the table against the installed library, and what people write against the table."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.registry import check_issuer_config, issuer_config_schema, issuer_secrets
from certctl.core.dns_providers import PROVIDERS, options_of, provider_of, read_secrets
from certctl.core.errors import Malformed

_LEFT_OUT = {"auto", "localzone", "oci"}
_DECLARED = """
import argparse, json
from lexicon._private.discovery import find_providers, load_provider_module
found = {}
for name in find_providers():
    parser = argparse.ArgumentParser(add_help=False)
    load_provider_module(name).Provider.configure_parser(parser)
    found[name] = {
        action.dest: "flag" if action.const is True else "number" if action.type in {int, float} else "text"
        for action in parser._actions
    }
print(json.dumps(found))
"""
DNS = {"directory_url": "https://ca.test/dir", "challenge_type": "dns-01"}
POWER = DNS | {"dns_provider": "powerdns", "dns_provider_secrets": "auth_token=t"}


def test_the_table_is_what_the_installed_library_declares():
    """In a process of its own: none of ours imports it."""
    command = [sys.executable, "-I", "-c", _DECLARED]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    declared = json.loads(ran.stdout)
    assert {name: {option.name: option.kind for option in known.options} for name, known in PROVIDERS.items()} == {
        name: options for name, options in declared.items() if name not in _LEFT_OUT
    }
    assert len(PROVIDERS) > 60
    assert "lexicon" not in sys.modules


def test_each_provider_has_a_secret_and_what_is_plain_is_not_one():
    for provider in PROVIDERS.values():
        assert provider.secrets, provider.name
        for name in provider.plain:
            assert not any(word in name for word in ("token", "password", "secret", "psw", "api_key")), (provider, name)


def test_the_form_offers_the_providers_and_keeps_the_secrets():
    (schema,) = issuer_config_schema("ACME")["$defs"].values()
    assert schema["properties"]["dns_provider"]["enum"] == ["", *PROVIDERS]
    assert schema["properties"]["dns_provider_secrets"]["writeOnly"] is True
    assert "dns_provider_secrets" in issuer_secrets("acme")
    check_issuer_config("ACME", POWER | {"dns_provider_options": {"pdns_server": "https://dns.test", "ttl": "60"}})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (POWER | {"dns_provider": "powerdn"}, "did you mean powerdns"),
        (POWER | {"dns_provider": "auto"}, "not known"),
        (POWER | {"dns_provider": "localzone"}, "not known"),
        (POWER | {"dns_server": "ns.test"}, "choose one"),
        (POWER | {"dns_provider_options": {"auth_token": "x"}}, "auth_token belongs in dns_provider_secrets"),
        (POWER | {"dns_provider_secrets": "pdns_server=x"}, "pdns_server belongs in dns_provider_options"),
        (POWER | {"dns_provider_options": {"server": "x"}}, "it takes pdns_server"),
        (POWER | {"dns_provider_options": {"ttl": "soon"}}, "ttl is a whole number"),
        (POWER | {"dns_provider_secrets": "my token"}, "line 1 is not name=value"),
        (POWER | {"dns_provider_secrets": '{"auth_token": 5}'}, "is a text"),
        (POWER | {"dns_provider": "transip", "dns_provider_options": {"auth_key_is_global": "1"}}, "true or false"),
    ],
)
def test_what_no_provider_takes_is_refused_before_it_is_kept(config, said):
    secrets = '{"auth_api_key": "k"}' if config["dns_provider"] == "transip" else config["dns_provider_secrets"]
    with pytest.raises(Malformed, match=said):
        check_issuer_config("ACME", config | {"dns_provider_secrets": secrets})


def test_values_of_several_lines_are_written_as_json():
    told = options_of(provider_of("transip"), {"auth_username": "me"}, json.dumps({"auth_api_key": "a\nb"}))
    assert told == {"auth_username": "me", "auth_api_key": "a\nb"}


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["{", "}", '"auth_token"', ":", "=", "\n", "#", "[", "5", "a"]), max_size=12).map(
        "".join
    )
)
def test_any_text_of_secrets_is_read_or_refused_without_being_shown(text):
    hidden = f"{text}\nauth_token=s3cr3t-v4lue"
    with contextlib.suppress(ValueError):
        assert all(isinstance(value, str) for value in read_secrets(text).values())
    try:
        read_secrets(hidden)
    except ValueError as error:
        assert "s3cr3t" not in str(error)
    try:
        options_of(provider_of("duckdns"), {}, f"token=s3cr3t-v4lue\n{text}")
    except ValueError as error:
        assert "s3cr3t" not in str(error)
