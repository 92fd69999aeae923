"""CEL rules: typed over the same facts, bounded, and what cannot be judged is not kept."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.core.names import parse_names
from certctl.policy.rules import expressions
from certctl.policy.rules.configs import BLOCKING, PolicySeverity, PolicyType, read_config
from certctl.policy.rules.judge import Rule, judge
from certctl.policy.rules.subject import Subject

SUBJECT = Subject(
    certificate_id="mc-1",
    issuer_id="iss-local",
    names=parse_names(["dns:www.example.com", "ip:10.0.0.7", "uri:spiffe://td/app", "email:a@example.com"]),
    environment="prod",
    owner_id="o-1",
    team_id="",
    tags={"cost": "42"},
    lead=timedelta(days=30),
    validity=timedelta(days=90),
)


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("dns_names.all(name, name.endsWith('.example.com'))", True),
        ("names.exists(name, name == '10.0.0.7') && ip_addresses.size() == 1", True),
        ("uris == ['spiffe://td/app'] && email_addresses == ['a@example.com']", True),
        ("environment != 'prod' || validity_days <= 47.0", False),
        ("has(tags.cost) && tags.cost.matches('^[0-9]+$')", True),
        ("'cost' in tags && !('owner' in tags) && owner_id != '' && team_id == ''", True),
        ("renews_itself && lead_days >= 30.0 && !is_issued && lifetime_days == 0.0 && remaining_days == 0.0", True),
        ("issuer_id in ['iss-other']", False),
        ("true", True),
    ],
)
def test_an_expression_is_kept_or_broken(expression, kept):
    expressions.check(expression)
    assert (expressions.fault(expression, SUBJECT) is None) is kept


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "Syntax error"),
        ("dns_names.all(", "Syntax error"),
        ("nothing == 1", "undeclared reference"),
        ("environment == 1", "no matching overload"),
        ("environment", "gives string"),
        ("x" * 5000, "at most 4000"),
        ("(" * 500 + "true" + ")" * 500, "recursion"),
        ("[" * 1900, "recursion"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(expression, said):
    with pytest.raises(Malformed) as refused:
        expressions.check(expression)
    assert said in refused.value.message
    with pytest.raises(Malformed) as named:
        read_config(PolicyType.CEL, {"expression": expression})
    assert named.value.violations[0].field == "config.expression"


@pytest.mark.parametrize(
    "expression",
    [
        "tags['nothing'] == 'x'",
        "1 / (dns_names.size() - 1) == 1",
        "environment.matches('[')",
        "names.all(a, names.all(b, names.all(c, names.all(d, names.all(e, a != 'zz')))))",
    ],
)
def test_what_cannot_be_judged_is_not_kept(expression):
    many = parse_names([f"dns:h{number}.example.com" for number in range(60)])
    subject = Subject(**{name: getattr(SUBJECT, name) for name in SUBJECT.__struct_fields__} | {"names": many})
    expressions.check(expression)
    one = SUBJECT if "names.all(a" not in expression else subject
    assert "cannot be judged" in (expressions.fault(expression, one) or "")
    config = read_config(PolicyType.CEL, {"expression": expression, "message": "ask the platform team"})
    for severity in PolicySeverity:
        rule = Rule(id="pr-1", name="mine", severity=severity, config=config)
        (found,) = judge([rule], one)
        assert found.violation.rule == "expression_is_not_kept"
        assert found.violation.message.startswith("policy mine: ask the platform team (it cannot be judged")
        assert (found.rule.severity in BLOCKING) is (severity != PolicySeverity.WARNING)


def test_without_the_runtime_a_rule_is_refused_and_not_kept(monkeypatch):
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    expressions._environment.cache_clear()
    expressions._compile.cache_clear()
    try:
        with pytest.raises(Malformed) as refused:
            expressions.check("true")
        assert "certctl[cel]" in refused.value.message
        assert "certctl[cel]" in (expressions.fault("true", SUBJECT) or "")
    finally:
        expressions._environment.cache_clear()
        expressions._compile.cache_clear()


@given(st.text(max_size=200))
def test_any_text_is_an_expression_or_refused(text):
    try:
        expressions.check(text)
    except Malformed as refused:
        assert "\n" not in refused.message
        return
    expressions.fault(text, SUBJECT)


_WORDS = st.sampled_from(
    [
        *expressions.FACTS,
        "(",
        ")",
        "[",
        "]",
        "&&",
        "||",
        "!",
        "==",
        "<",
        "+",
        ".all(x,",
        ".size()",
        "'a'",
        "1",
        "1.0",
        "true",
        "?",
        ":",
    ]
)


@given(st.lists(_WORDS, max_size=30))
def test_whatever_is_put_together_ends(words):
    text = " ".join(words)
    try:
        expressions.check(text)
    except Malformed:
        return
    expressions.fault(text, SUBJECT)
