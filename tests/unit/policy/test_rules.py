from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.core.names import parse_names
from certctl.policy.rules.configs import CONFIGS, PolicySeverity, PolicyType, read_config, read_severity, read_type
from certctl.policy.rules.judge import Rule, judge
from certctl.policy.rules.subject import Subject

DAY = timedelta(days=1)
SUBJECT = Subject(
    certificate_id="mc-1",
    issuer_id="iss-local",
    names=parse_names(["shop.example.com", "10.0.0.7"]),
    environment="Production",
    owner_id="o-1",
    team_id="",
    tags={"cost-centre": "7"},
    lead=30 * DAY,
    validity=90 * DAY,
)


def broken(kind: PolicyType, config: dict, **other) -> list[str]:
    rule = Rule(id="pr-1", name="house", severity=PolicySeverity.ERROR, config=read_config(kind, config))
    found = judge([rule], msgspec.structs.replace(SUBJECT, **other))
    assert all(each.violation.message.startswith("policy house: ") for each in found)
    return [each.violation.rule for each in found]


@pytest.mark.parametrize(
    ("kind", "config", "other", "expected"),
    [
        (PolicyType.ALLOWED_ISSUERS, {"allowed_issuer_ids": ["iss-local", "x"]}, {}, None),
        (PolicyType.ALLOWED_ISSUERS, {"allowed_issuer_ids": ["iss"]}, {}, "issuer_is_not_allowed"),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["*.example.com", "10.0.0.0/8"]}, {}, None),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["*.example.com"]}, {}, "name_is_not_allowed"),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["example.com", "10.0.0.7"]}, {}, "name_is_not_allowed"),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["**.example.com"]}, {"names": parse_names(["a.b.example.com"])}, None),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["*.example.com"]}, {"names": parse_names(["a.b.example.com"])}, "name_is_not_allowed"),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["*.example.com"]}, {"names": parse_names(["x.example.com.evil.example"])}, "name_is_not_allowed"),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["*.example.com"]}, {"names": parse_names(["uri:https://shop.example.com/"])}, "name_is_not_allowed"),
        (PolicyType.REQUIRED_METADATA, {"required_keys": ["owner", "cost-centre", "environment"]}, {}, None),
        (PolicyType.REQUIRED_METADATA, {"required_keys": ["team"]}, {}, "metadata_is_missing"),
        (PolicyType.REQUIRED_METADATA, {"required_keys": ["team"]}, {"tags": {"team": "web"}}, None),
        (PolicyType.REQUIRED_METADATA, {"required_keys": ["cost-centre"]}, {"tags": {"cost-centre": "  "}}, "metadata_is_missing"),
        (PolicyType.ALLOWED_ENVIRONMENTS, {"allowed": ["production"]}, {}, None),
        (PolicyType.ALLOWED_ENVIRONMENTS, {"allowed": ["staging"]}, {}, "environment_is_not_allowed"),
        (PolicyType.ALLOWED_ENVIRONMENTS, {"allowed": ["staging"]}, {"environment": ""}, "environment_is_not_allowed"),
        (PolicyType.RENEWAL_LEAD_TIME, {}, {}, None),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 31}, {}, "renewal_comes_too_late"),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 1}, {"lead": None}, "renewal_comes_too_late"),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 14}, {"remaining": 14 * DAY}, None),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 14}, {"remaining": 14 * DAY - timedelta(seconds=1)}, "renewal_comes_too_late"),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 14}, {"remaining": -DAY}, "renewal_comes_too_late"),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 90}, {}, None),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 90}, {"validity": 90 * DAY + timedelta(seconds=1)}, "life_is_too_long"),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 90}, {"validity": None, "lifetime": 90 * DAY + timedelta(minutes=5)}, None),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 90}, {"validity": None, "lifetime": 91 * DAY}, "life_is_too_long"),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 90}, {"lifetime": 398 * DAY}, "life_is_too_long"),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 1}, {"validity": None}, None),
    ],
)  # fmt: skip
def test_a_rule_is_kept_or_broken(kind, config, other, expected):
    assert broken(kind, config, **other) == ([expected] if expected else [])


def test_every_rule_is_asked():
    rules = [
        Rule(id=str(number), name="r", severity=PolicySeverity.WARNING, config=read_config(kind, config))
        for number, (kind, config) in enumerate(
            (
                (PolicyType.ALLOWED_ISSUERS, {"allowed_issuer_ids": ["x"]}),
                (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 1}),
                (PolicyType.REQUIRED_METADATA, {"required_keys": ["owner"]}),
            )
        )
    ]
    assert [each.rule.id for each in judge(rules, SUBJECT)] == ["0", "1"]


@pytest.mark.parametrize(
    ("kind", "config", "fields"),
    [
        (PolicyType.ALLOWED_ISSUERS, {}, ["config.allowed_issuer_ids"]),
        (PolicyType.ALLOWED_ISSUERS, {"allowed_issuer_ids": []}, ["config.allowed_issuer_ids"]),
        (PolicyType.ALLOWED_ISSUERS, {"allowed_issuers": ["x"], "b": 1}, ["config.allowed_issuers", "config.b"]),
        (
            PolicyType.ALLOWED_DOMAINS,
            {"allowed_domains": ["ok.example", "re:(a*)*", ""]},
            ["config.allowed_domains[2]"],
        ),
        (PolicyType.ALLOWED_DOMAINS, {"allowed_domains": ["ok.example", "re:(a*)*"]}, ["config.allowed_domains[1]"]),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": 0}, ["config.lead_time_days"]),
        (PolicyType.RENEWAL_LEAD_TIME, {"lead_time_days": "30"}, ["config.lead_time_days"]),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": None}, ["config.max_days"]),
        (PolicyType.CERTIFICATE_LIFETIME, {"max_days": 10**30}, ["config.max_days"]),
    ],
)
def test_a_configuration_that_cannot_be_is_named(kind, config, fields):
    with pytest.raises(Malformed) as caught:
        read_config(kind, config)
    assert [each.field.partition("[...]")[0] for each in caught.value.violations] == fields


def test_words_in_any_case():
    assert read_type(" allowedissuers ") is PolicyType.ALLOWED_ISSUERS
    assert read_severity("CRITICAL") is PolicySeverity.CRITICAL
    assert set(CONFIGS) == set(PolicyType)
    for read in (read_type, read_severity):
        with pytest.raises(Malformed):
            read("other")


JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.text(max_size=8) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)
KEYS = st.sampled_from(
    ["allowed_issuer_ids", "allowed_domains", "required_keys", "allowed", "lead_time_days", "max_days", "x"]
)


# a busy machine makes input slowly
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(list(PolicyType)), st.dictionaries(KEYS, JSON, max_size=3))
def test_any_configuration_is_read_or_refused(kind, config):
    try:
        read = read_config(kind, config)
    except Malformed as error:
        assert error.violations
        return
    rule = Rule(id="pr-1", name="house", severity=PolicySeverity.ERROR, config=read)
    assert len(judge([rule], SUBJECT)) <= 1
