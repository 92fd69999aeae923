"""What a CA's refusal means for us: which error, and what somebody has to do next (RFC 8555 6.7, with subproblems)."""

from __future__ import annotations

from datetime import timedelta

from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary
from certctl.wire.acme_answers import Problem

_SHOWN = 10
# kind of problem -> what to do next
_CONFIGURATION = {
    "externalAccountRequired": "give eab_kid and eab_hmac, which the CA hands out, in the issuer's configuration",
    "invalidContact": "mend email in the issuer's configuration",
    "unsupportedContact": "mend email in the issuer's configuration",
    "invalidProfile": "name a profile that the CA's directory lists in the issuer's configuration, or none",
    "userActionRequired": "somebody has to act at the CA first",
    "unauthorized": "the account may not do this, or control of the name was not shown; see what the CA says",
    "badPublicKey": "the CA takes no key of this kind: choose another key algorithm in the profile",
    "badSignatureAlgorithm": "the CA takes no account key of this kind",
}
_REFUSALS = {
    "badCSR": "the CA does not take this request: compare the profile's key and names with the CA's rules",
    "caa": "the domain's CAA records do not let this CA issue: add one that names it, or use another issuer",
    "connection": "the CA could not connect to the name: open the way from outside to it, then renew",
    "dns": "the CA could not look the name up: mend its DNS, then renew",
    "incorrectResponse": "the CA found another answer than ours: let the name lead to where it is given, then renew",
    "tls": "the CA could not speak TLS with the name: mend it, then renew",
    "rejectedIdentifier": "the CA does not issue for this name: ask another issuer for it",
    "unsupportedIdentifier": "the CA does not issue for names of this kind: ask another issuer for it",
    "malformed": "the CA does not understand us: tell those who maintain certctl",
}


class CaRefusal(Exception):
    """An answer that is a problem document; never leaves the connector as it is."""

    def __init__(self, problem: Problem, retry_after: timedelta | None, where: str, terms: str = "") -> None:
        super().__init__(problem.kind)
        self.problem = problem
        self.retry_after = retry_after
        self.where = where
        self.terms = terms


def error_of(refusal: CaRefusal) -> ConnectorError:
    """The error that leaves the connector."""
    problem = refusal.problem
    said = describe(problem, refusal.where)
    error: ConnectorError
    if problem.kind == "rateLimited" or problem.status == 429:
        error = Temporary(f"{said}; asked again when the CA allows it", retry_after=refusal.retry_after)
        error.cause = "rate_limited"
    elif problem.kind in {"badNonce", "orderNotReady", "accountDoesNotExist"} or problem.status in {408, 425}:
        error = Temporary(f"{said}; tried again", retry_after=refusal.retry_after)
    elif problem.kind == "serverInternal" or problem.status >= 500:
        error = Temporary(f"{said}; tried again", retry_after=refusal.retry_after)
        error.cause = "upstream_5xx"
    elif problem.kind in _CONFIGURATION:
        where = problem.instance or refusal.terms
        see = f": see {where}" if where and problem.kind == "userActionRequired" else ""
        error = Misconfigured(f"{said}; {_CONFIGURATION[problem.kind]}{see}")
        error.cause = "auth"
    else:
        error = Rejected(f"{said}; {_REFUSALS.get(problem.kind, 'the CA will not do it')}")
    return error


def describe(problem: Problem, where: str) -> str:
    """A sentence: what was asked, the kind, what the CA says, of each identifier that it names."""
    kind = problem.kind or f"status {problem.status}"
    text = f"{where}: the CA answered {kind}" + (f" ({problem.detail})" if problem.detail else "")
    named = [
        f"{name or 'a name'}: {sub or 'refused'}" + (f" ({detail})" if detail else "")
        for name, sub, detail in problem.identifiers[:_SHOWN]
    ]
    more = len(problem.identifiers) - _SHOWN
    if more > 0:
        named.append(f"and {more} more")
    return text + (f" [{'; '.join(named)}]" if named else "")
