"""Every page that there is, taken from the routes: on both databases, with names that mean harm, for every role."""

from __future__ import annotations

import gettext
import re

from markupsafe import escape

from certctl.core.permissions import ROLES
from certctl.lifecycle import observe
from certctl.web import words
from integration.api_house import Api, open_api
from integration.test_web import Visitor, csr, issued
from peers import pages

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)> ' + "\u05d0\u05d1\u05d2 " + "x" * 140
_CHOSEN = {
    "targets": "NGINX",
    "issuers": "ACME",
    "policies": "RequiredMetadata",
    "notification-channels": "Webhook",
}


async def furnished(api: Api) -> dict[str, str]:
    """One of everything, under a name that means harm; its ids as `pages.every_page` wants them."""
    agent = await api.agent("edge-1")
    nginx = {"cert_path": "/etc/nginx/tls/site.crt", "key_path": "/etc/nginx/tls/site.key"}
    acme = {"directory_url": "https://acme.example.com/directory", "terms_of_service_agreed": True}
    made = {
        "teams": {},
        "owners": {"email": "tls-team@example.com"},
        "profiles": {"allowed_key_algorithms": [], "requires_approval": True},
        "renewal-policies": {"renewal_window_days": 30},
        "policies": {"type": "RequiredMetadata", "severity": "Warning", "config": {"required_keys": ["owner"]}},
        "agent-groups": {"match_os": "linux"},
        "notification-channels": {"type": "Webhook", "config": {"url": "https://hooks.example.com/x"}},
        "issuers": {"type": "ACME", "config": acme},
        "targets": {"type": "nginx", "agent_id": agent.id, "config": nginx},
    }
    ids = {"agents": agent.id, "enrol": "edge-1", "issuer_id": "iss-local"}
    for word, body in made.items():
        ids[word] = (await api.made(f"/api/v1/{word}", {"name": HOSTILE} | body))["id"]
    vouching = {"name": HOSTILE, "profile_id": "prof-default", "allowed_names": ["example.com"]}
    await api.made("/api/v1/acme/external-account-keys", vouching)
    body = {"common_name": "shop.example.com", "name": HOSTILE, "team_id": ids["teams"], "owner_id": ids["owners"]}
    shop = await api.made("/api/v1/certificates", body | {"target_ids": [ids["targets"]]})
    await agent.serve()
    ids["certificates"] = shop["id"]
    ids["version_id"] = pages.first_of(await api.get(f"/api/v1/certificates/{shop['id']}/versions"))
    asked = {"common_name": "two.example.com", "name": HOSTILE + " 2", "csr_pem": csr("two.example.com")}
    await api.made("/api/v1/certificates", asked | {"certificate_profile_id": ids["profiles"]})
    gone = await issued(api, "gone.example.com", name=HOSTILE + " 3")
    await api.made(f"/api/v1/certificates/{gone}/revoke", {"reason": "superseded"}, status=200)
    # a look at what certctl may not look at: nothing goes out
    watched = {"endpoint": "169.254.169.254:443", "certificate_id": shop["id"], "expected_fingerprint": "ab" * 32}
    ids["health-checks"] = (await api.made("/api/v1/health-checks", watched))["id"]
    while await observe.look(api.house.ctx):
        pass
    dry = {"certificate_ids": [shop["id"]], "dry_run": True}
    answer = await api.call("POST", "/api/v1/certificates/bulk-renew", dry)
    ids["batches"] = answer.json()["batch_id"]
    ids["roles"] = (await api.made("/api/v1/auth/roles", {"name": HOSTILE[:100]}))["id"]
    ids["ca_id"] = pages.intermediate_of(await api.get("/api/v1/issuers/iss-local/intermediates"))
    for word, path in pages.LISTS.items():
        if word not in ids:
            ids[word] = pages.first_of(await api.get(path))
    # the tree of CAs is that of the built-in issuer, the forms are those of the other
    return ids


def addresses(ids: dict[str, str]) -> list[str]:
    """Every page, and the pages that one route shows differently."""
    tree = {path for path, _ in pages.templates() if path.startswith("/issuers/{issuer_id")}
    found = [
        pages.filled(path, ids | ({"issuers": "iss-local"} if path in tree else {})) for path, _ in pages.templates()
    ]
    found += [f"/{word}/new?type={type_}" for word, type_ in _CHOSEN.items()]
    found += ["/jobs?status=Failed", "/jobs?q=shop.example.com", "/agents?status=Offline", "/approvals?state=approved"]
    found += ["/forecast?orders=1&per_hours=9&bound=*", "/forecast?orders=%3Cscript%3Ealert(1)%3C/script%3E"]
    found += ["/violations?resolved=true", "/find?q=%3E", "/find?q=shop", "/certificates?q=shop", "/audit?q=two"]
    found += [
        "/notifications?status=skipped",
        "/notifications?q=shop",
        f"/certificates/{ids['certificates']}?events=all",
        "/health-checks?status=down",
        "/health-checks?q=169.254",
        f"/health-checks?certificate_id={ids['certificates']}",
        f"/health-checks?target_id={ids['targets']}",
        f"/health-checks/new?certificate_id={ids['certificates']}&endpoint=%3Cscript%3E:443",
    ]
    return found


async def test_every_page_keeps_its_policy_and_shows_names_that_mean_harm_as_text(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        ids = await furnished(api)
        shown = 0
        for path in addresses(ids):
            answer = await visitor.get(path)
            assert answer.status_code == 200, (path, answer.text)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy, path
            assert pages.Looked(answer.text).refused == [], path
            assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, path
            # escaped once: a name that was twice reads as its entities
            assert "&amp;lt;script" not in answer.text, path
            shown += "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
        # the name was really met, on lists and on pages of its own
        assert shown > len(ids)
        listed = (await visitor.get("/certificates")).text
        assert "Proven" in listed
        page = (await visitor.get(f"/certificates/{ids['certificates']}")).text
        for told in ("Version 1", "Seen served, by edge-1", "1 of 1 place"):
            assert told in page
        await visitor.http.aclose()


async def test_nobody_is_shown_a_page_a_link_or_a_button_that_they_may_not_use(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        ids = await furnished(api)
        for role in ("r-viewer", "r-auditor", "r-mcp", "r-operator"):
            visitor, may = Visitor(api), ROLES[role].permissions
            await visitor.sign_in(await api.key(role))
            opened, beyond = 0, {}
            for path in addresses(ids):
                answer = await visitor.get(path)
                expected = pages.allowed(path.partition("?")[0], "GET", may)
                assert answer.status_code == (200 if expected else 403), (role, path, answer.status_code)
                opened += expected
                looked = pages.Looked(answer.text)
                far = {link for link in looked.links if not pages.allowed(link, "GET", may)}
                far |= {f"POST {to}" for to in looked.sends if not pages.allowed(to, "POST", may)}
                beyond |= {path: far} if far else {}
            assert beyond == {}, role
            assert 0 < opened < len(addresses(ids)), role
            await visitor.http.aclose()


class Marked(gettext.NullTranslations):
    """A language in which every sentence is known by its marks."""

    def gettext(self, message: str) -> str:
        return f"\u27e6{message}\u27e7"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


async def test_every_page_can_be_read_in_another_language(tmp_path, monkeypatch):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        ids = await furnished(api)
        monkeypatch.setattr(words, "_translations", lambda _name: Marked())
        bare = set()
        for path in addresses(ids):
            answer = await visitor.get(path)
            assert answer.status_code == 200, (path, answer.text)
            said = answer.text.replace(str(escape(HOSTILE)), "")
            # what stands over columns and sections, and on buttons, is ours, but for names
            for tag in ("h2", "th(?! scope)", "button", "summary"):
                for found in re.findall(rf"<{tag}[^>]*>(.*?)</{tag[:2] if tag[0] == 't' else tag}>", said, re.DOTALL):
                    text = re.sub(r"<bdi>.*?</bdi>|<[^>]*>|\u27e6.*?\u27e7", "", found, flags=re.DOTALL)
                    if re.search(r"[A-Za-z]{3}", text) and text.strip() != "UTC":
                        bare.add((path.partition("?")[0], text.strip()[:80]))
        assert bare == set()
        await visitor.http.aclose()


def test_each_route_is_one_of_the_pages_that_are_walked():
    names = dict.fromkeys(pages.LISTS, "x") | {"version_id": "x", "ca_id": "x", "issuer_id": "x", "enrol": "x"}
    walked = pages.every_page(names)
    assert len(walked) == len(list(pages.templates()))
    assert not [path for path in walked.values() if re.search(r"[{}]", path)]
