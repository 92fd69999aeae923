"""Forms that are made of schemas: what is sent back unchanged changes nothing, and whatever is typed is judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.connectors.registry import TARGETS, check_target_config
from certctl.core.errors import CallerError
from certctl.web.configure.fields import shown_of, value_at
from certctl.web.configure.form import as_body, faults_of, form_of, read_form
from certctl.web.configure.kinds import KINDS, Kind
from certctl.web.configure.wording import labels
from certctl.web.request import Fields

BY_PATH = {kind.path: kind for kind in KINDS}
OPTIONS = {
    "agent_id": [("", "Choose one"), ("agent-1", "web-1")],
    "team_id": [("", "None")],
    "acme_issuer_id": [("", "None")],
    "certificate_profile_id": [("", "None")],
    "config.allowed_issuer_ids": [("iss-local", "Built-in")],
}
TYPES = [(kind, type_) for kind in KINDS for type_, _ in (kind.types() if kind.types else [("", "")])]
PAIR = {"cert_path": "/etc/tls/a.crt", "key_path": "/etc/tls/a.key"}


def typed(form, body: dict[str, Any]) -> Fields:
    """What a browser sends of a form that shows `body`."""
    pairs: list[tuple[str, str]] = []
    for line in form.lines(body):
        if line.field.kind == "rows":
            for index, row in enumerate(line.shown):
                pairs += [(f"{line.field.path}.{index}.{name}", text) for name, text in row.items()]
        elif line.field.kind == "ticks":
            pairs += [(line.field.path, each) for each in line.shown]
        elif line.field.kind != "tick" or line.shown:
            pairs.append((line.field.path, line.shown.replace("\n", "\r\n")))
    return Fields(tuple(pairs))


def types_of(kind: Kind) -> list[str]:
    return [type_ for type_, _text in kind.types()] if kind.types else [""]


@pytest.mark.parametrize("type_", [entry.kind for entry in TARGETS])
def test_a_target_that_is_sent_back_unchanged_stays_as_it_is(type_):
    config = {"pem_path": "/etc/tls/a.pem"} if type_ == "HAProxy" else PAIR
    stored = {"name": "a", "agent_id": "agent-1", "enabled": True, "config": config | {"reload_command": ""}}
    form = form_of(BY_PATH["/targets"], type_, OPTIONS)
    assert read_form(form, typed(form, stored), stored) == ({}, {})
    wanted, faults = read_form(form, typed(form, stored), None)
    assert faults == {}
    assert {name: value for name, value in wanted["config"].items() if value} == config
    check_target_config(type_, wanted["config"])


def test_what_the_form_does_not_know_of_a_config_is_kept():
    stored = {"name": "a", "agent_id": "agent-1", "enabled": True, "config": PAIR | {"backup_retention": 3}}
    form = form_of(BY_PATH["/targets"], "NGINX", OPTIONS)
    changed = {**stored, "config": {**stored["config"], "endpoint": "127.0.0.1:8443"}}
    wanted, faults = read_form(form, typed(form, changed), stored)
    assert faults == {}
    assert wanted == {"config": PAIR | {"backup_retention": 3, "endpoint": "127.0.0.1:8443"}}


def test_lists_rows_and_pairs_come_back_as_they_went():
    profile = {
        "name": "p", "description": "a\nb", "enabled": False, "max_ttl_seconds": 0, "allowed_ekus": ["serverAuth"],
        "allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 3072}], "required_san_patterns": [],
        "spiffe_uri_pattern": "", "allow_short_lived": True, "must_staple": False, "required_csr_attributes": [],
        "acme_auth_mode": "", "acme_issuer_id": "", "acme_profiles": [], "requires_approval": True,
        "approvals_required": 1, "approvers": [],
    }  # fmt: skip
    form = form_of(BY_PATH["/profiles"], "", OPTIONS)
    wanted, faults = read_form(form, typed(form, profile), profile | {"description": "a\r\nb"})
    assert (wanted, faults) == ({}, {})
    policy = {
        "name": "r", "renewal_window_days": None, "renewal_window_fraction": 0.25, "auto_renew": True,
        "max_retries": 3, "retry_interval_seconds": 60, "alert_thresholds_days": [30, 0],
        "alert_channels": {"critical": ["Email", "Slack"]}, "alert_severity_map": {"7": "critical"},
        "certificate_profile_id": "", "renewal_windows": [], "freezes": [],
    }  # fmt: skip
    form = form_of(BY_PATH["/renewal-policies"], "", OPTIONS)
    assert read_form(form, typed(form, policy), policy) == ({}, {})


def test_one_of_two_windows_is_emptied_when_the_other_is_given():
    stored = dict.fromkeys(BY_PATH["/renewal-policies"].body.__struct_fields__) | {"renewal_window_days": 30}
    form = form_of(BY_PATH["/renewal-policies"], "", OPTIONS)
    said = Fields((("name", "r"), ("renewal_window_fraction", "0.5")))
    wanted, _faults = read_form(form, said, stored)
    assert (wanted["renewal_window_days"], wanted["renewal_window_fraction"]) == (None, 0.5)
    assert as_body(form.kind, {"renewal_window_days": None})["renewal_window_days"] is None


TEXT = st.text(max_size=300).filter(lambda text: "\0" not in text)


@settings(max_examples=60)
@given(st.sampled_from([(kind, type_) for kind in KINDS for type_ in types_of(kind)]), st.data())
def test_whatever_is_typed_is_told_at_fields_or_refused_by_the_api(chosen, data):
    kind, type_ = chosen
    form = form_of(kind, type_, OPTIONS)
    names = [field.path for field in form.fields]
    names += [f"{field.path}.0.{column.path}" for field in form.fields for column in field.columns]
    said = Fields(tuple((name, data.draw(TEXT)) for name in names if data.draw(st.booleans())))
    for stored in (None, dict.fromkeys(kind.body.__struct_fields__) | {"config": {}}):
        wanted, faults = read_form(form, said, stored)
        assert set(faults) <= {field.path for field in form.fields}
        for line in form.sent(said, faults):
            assert line.shown is not None
        try:
            body = as_body(kind, wanted)
        except CallerError as error:
            told, rest = faults_of(form, error)
            assert told or rest
        else:
            for field in form.fields:
                shown_of(field, value_at(body, field.path))


@pytest.mark.parametrize(("kind", "type_"), TYPES, ids=[f"{kind.path} {type_}" for kind, type_ in TYPES])
def test_each_field_has_words_that_can_be_translated(kind, type_):
    """And not those that its name in the API makes, which are English for ever."""
    words = {**labels(), **kind.labels()}
    fields = form_of(kind, type_, OPTIONS).fields
    assert [field.path for field in fields if field.path.rpartition(".")[2] not in words] == []
