"""The environment is read strictly: everything wrong is told at once, nothing is guessed, no secret is echoed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl import settings
from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret
from certctl.settings.acme import ACME
from certctl.settings.alerts import ALERTS
from certctl.settings.audit import AUDIT
from certctl.settings.doors import ALONE, DOORS
from certctl.settings.elsewhere import OTHER_PROGRAMS, REFERENCE
from certctl.settings.watching import WATCHING


def test_nothing_set_is_the_one_command_start():
    chosen = settings.load({})
    assert chosen.embedded
    assert chosen.database_url == "sqlite:////var/lib/certctl/certctl.db"
    assert chosen.pki_base_url == "http://127.0.0.1:8080"
    assert (chosen.lease, chosen.port, chosen.tls_cert_path) == (timedelta(seconds=30), 8443, None)
    assert settings.load({"CERTCTL_SERVER_PORT": ""}) == chosen, "empty is unset"


def test_defaults_follow_what_they_are_made_of():
    chosen = settings.load({"CERTCTL_DATA_DIR": "/srv/c", "CERTCTL_SERVER_HOST": "::1", "CERTCTL_PKI_HTTP_PORT": "80"})
    assert chosen.data_dir == Path("/srv/c")
    assert chosen.database_url == "sqlite:////srv/c/certctl.db"
    assert chosen.pki_base_url == "http://[::1]:80"


def test_everything_wrong_is_told_at_once():
    environ = {
        "CERTCTL_SERVER_PORT": "https",
        "CERTCTL_STEP_LEASE": "soon",
        "CERTCTL_LOG_LEVEL": "loud",
        "CERTCTL_SERVER_PORTS": "8443",
        "CERTCTL_DATABASE_URL": "mysql://root:hunter2@db/x",
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "short-secret",
    }
    with pytest.raises(Misconfigured) as caught:
        settings.load(environ)
    said = caught.value.message
    for name in environ:
        assert name in said
    assert "did you mean CERTCTL_SERVER_PORT?" in said
    assert "hunter2" not in said
    assert "short-secret" not in said


def test_a_placeholder_is_no_secret():
    with pytest.raises(Misconfigured, match="placeholder"):
        settings.load({"CERTCTL_CONFIG_ENCRYPTION_KEY": "change-me-change-me-change-me-change-me"})


def test_variables_of_other_programs_are_no_fault_and_the_references_are_told_as_idle():
    found = settings.read(dict.fromkeys(OTHER_PROGRAMS, "x") | {"CERTCTL_NETWORK_SCAN_ENABLED": "true", "PATH": "/bin"})
    assert found.faults == ()
    assert found.idle == ("CERTCTL_NETWORK_SCAN_ENABLED",)
    assert settings.read({"CERTCTL_EST_PROFILE_LAB_ISSUER_ID": "iss-1"}).faults == ()


def test_every_variable_is_declared_once_and_every_setting_has_one():
    names = [variable.name for variable in settings.VARIABLES.values()]
    assert len(names) == len(set(names))
    # what the doors keep to stands together in one setting; so do ACME's, notifications', the audit push's and health checks'
    together = (DOORS, ACME, ALERTS, AUDIT, WATCHING)
    apart = {field for sections in together for section in sections.values() for field in section} - ALONE
    assert set(settings.VARIABLES) - apart == set(settings.Settings.__struct_fields__) - {
        "doors",
        "acme",
        "alerts",
        "audit",
        "health",
    }
    assert not set(names) & OTHER_PROGRAMS
    for variable in settings.VARIABLES.values():
        assert variable.meaning, variable.name
        assert variable.of(variable.default) == variable.of(""), variable.name


def test_the_references_names_are_known():
    assert {"CERTCTL_SERVER_PORT", "CERTCTL_SMTP_HOST", "CERTCTL_MIGRATIONS_VIA_HOOK"} <= REFERENCE


@given(st.dictionaries(st.sampled_from([v.name for v in settings.VARIABLES.values()]), st.text(max_size=40)))
def test_no_text_breaks_the_reader(environ):
    found = settings.read(environ)
    if found.faults:
        with pytest.raises(Misconfigured):
            settings.load(environ)
    else:
        chosen = settings.load(environ)
        assert isinstance(chosen.encryption_key, Secret)
