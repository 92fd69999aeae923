"""What DNS says before a public CA is asked, by a real BIND: only what is known forbids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certctl.connectors.base.issuer import Prospect
from certctl.connectors.validation.precheck import DnsPrecheck
from certctl.core.errors import Rejected
from certctl.core.names import parse_names
from peers.bind import ZONE, Bind, bind

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble")]


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        made.set("ours", "CAA", '0 issue "ca.test"', '0 issuewild ";"')
        made.set("theirs", "CAA", '0 issue "other.test"')
        made.set("bound", "CAA", '0 issue "ca.test; accounturi=https://ca.test/acct/1; validationmethods=dns-01"')
        made.set("nobody", "CAA", '0 issue ";"')
        made.set("ours", "A", "192.0.2.1")
        yield made


def prospect(method: str = "dns-01", account: str = "https://ca.test/acct/1", *identities: str) -> Prospect:
    return Prospect(caa_identities=identities or ("ca.test",), account_url=account, method=method)


ALLOWED = [
    (f"ours.{ZONE}", prospect()),
    (f"a.ours.{ZONE}", prospect()),
    (f"ours.{ZONE}", prospect("http-01")),
    (f"bound.{ZONE}", prospect()),
    (f"free.{ZONE}", prospect()),
    ("shop.broken.test", prospect()),  # cannot be looked up: the CA looks itself
    (f"theirs.{ZONE}", Prospect(caa_identities=(), account_url="https://ca.test/acct/1", method="http-01")),
    ("192.0.2.7", prospect("http-01")),
]
FORBIDDEN = [
    (f"theirs.{ZONE}", prospect(), "CAA records at theirs"),
    (f"deep.below.theirs.{ZONE}", prospect(), "CAA records at theirs"),
    (f"*.ours.{ZONE}", prospect(), "CAA records at ours"),
    (f"nobody.{ZONE}", prospect(), "add one that names ca.test"),
    (f"bound.{ZONE}", prospect(account="https://ca.test/acct/2"), "CAA records at bound"),
    (f"bound.{ZONE}", prospect(account="https://elsewhere.test/acct/1"), "CAA records at bound"),
    (f"bound.{ZONE}", prospect("http-01"), "CAA records at bound"),
    (f"free.{ZONE}", prospect("http-01"), "no address in DNS"),
    (f"free.{ZONE}", prospect("tls-alpn-01"), "prove the name by dns-01"),
]


@pytest.mark.parametrize(("name", "who"), ALLOWED, ids=[name for name, _ in ALLOWED])
async def test_what_is_not_forbidden_is_asked(names, name, who):
    await DnsPrecheck(names.resolver).judge(parse_names([name]), who)


@pytest.mark.parametrize(("name", "who", "said"), FORBIDDEN)
async def test_what_is_forbidden_is_told_plainly(names, name, who, said):
    with pytest.raises(Rejected, match="the CA was not asked") as refused:
        await DnsPrecheck(names.resolver).judge(parse_names([name]), who)
    assert said in refused.value.message
