"""Every page in light, dark and narrow: axe finds nothing, nothing scrolls sideways, a picture is kept to be looked at."""

from __future__ import annotations

import pytest

from browser.conftest import SCREENSHOTS
from browser.looking import LOOKS, faults, look_at
from browser.site import HOSTILE, LONG
from peers import pages as every

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]

# a test has its time, and a busy machine needs it
_PARTS = 4


def walked(site) -> dict[str, str]:
    """Every page there is by the name of its picture: one for each route, and what a route shows differently."""
    shop = site.ids["shop"]
    ids = site.ids | {"certificates": shop, "agents": site.ids["edge"], "enrol": "edge-ams-01", "jobs": site.ids["job"]}
    ids |= {"batches": site.ids["batch"], "issuer_id": "iss-local", "keys": "olivia"}
    ids["version_id"] = site.call("GET", f"/api/v1/certificates/{shop}/versions")["data"][-1]["id"]
    ids["ca_id"] = every.intermediate_of(site.call("GET", "/api/v1/issuers/iss-local/intermediates"))
    ids |= {word: every.first_of(site.call("GET", path)) for word, path in every.LISTS.items() if word not in ids}
    built_in = {path for path, _permission in every.templates() if path.startswith("/issuers/{issuer_id")}
    found = {
        every.name_of(path): every.filled(path, ids | ({"issuers": "iss-local"} if path in built_in else {}))
        for path, _permission in every.templates()
    }
    assert len(found) == len(list(every.templates()))
    for name in ("what ends soon", HOSTILE[:80]):
        _kept(site, name)
    return found | {
        "certificates-none": "/certificates?q=nothing-is-called-so",
        "certificate-waiting": f"/certificates/{site.ids['waiting']}",
        "certificate-hostile": f"/certificates/{site.ids['hostile']}",
        "certificate-long": f"/certificates/{site.ids['long']}",
        "certificate-revoked": f"/certificates/{site.ids['gone']}",
        "find-some": "/find?q=example.com",
        "issuer": "/issuers/iss-local",
        "role-built-in": "/roles/r-viewer",
        "policy": f"/policies/{site.ids['rule']}",
        "target-new-haproxy": "/targets/new?type=HAProxy",
        "channel-new-mail": "/notification-channels/new?type=Email",
        "issuer-new-acme": "/issuers/new?type=ACME",
    }


def _kept(site, name: str) -> None:
    """A view of the list, kept once for all parts."""
    if name in site.kept:
        return
    site.kept.add(name)
    cookies = {each["name"]: each["value"] for each in site.cookies()}
    said = {
        "path": "/certificates",
        "query": f"q={len(site.kept)}",
        "name": name,
        "once": "a" * 31 + str(len(site.kept)),
    }
    said["csrf"] = cookies["__Host-certctl_csrf"]
    carried = {"Sec-Fetch-Site": "same-origin", "Cookie": "; ".join(map("=".join, cookies.items()))}
    answer = site.raw("POST", "/views", data=said, headers=carried)
    assert answer.status_code == 303, answer.text


@pytest.mark.parametrize("part", range(_PARTS))
def test_every_page_is_for_everybody(site, window, part):
    """axe finds nothing in light, dark and narrow, nothing scrolls sideways, nothing is said on the console."""
    pages = list(walked(site).items())
    assert look_at(window(**LOOKS["light"]), dict(pages[part::_PARTS])) == {}


def test_the_sign_in_page_of_a_stranger_is_for_everybody(window):
    assert look_at(window(signed_in=False, **LOOKS["light"]), {"login-stranger": "/login"}) == {}


def test_names_that_mean_harm_are_shown_and_do_nothing(site, window):
    opened = window()
    met: list[str] = []
    opened.page.on("dialog", lambda dialog: (met.append(dialog.message), dialog.dismiss()))
    for word, name in (("hostile", HOSTILE), ("long", LONG)):
        for path in (f"/certificates/{site.ids[word]}", f"/certificates/{site.ids[word]}/revoke"):
            page = opened.go(path)
            heading = page.locator("h1").text_content()
            assert name.strip() in heading
            assert page.title() != "owned"
        listed = opened.go(f"/certificates?q={word}.example.com")
        assert name.strip() in listed.locator("#list .name").first.text_content()
    assert page.locator("main script, main img").count() == 0
    assert met == []


def test_refusals_are_pages_that_say_what_to_do(site, window):
    opened = window(refuses=True)
    for path, status, told in (
        ("/nowhere", 404, "There is no such thing"),
        (f"/certificates/{site.ids['shop']}x", 404, "There is no such thing"),
        ("/certificates?colour=red", 400, "is no parameter here"),
    ):
        answer = opened.page.goto(site.url + path)
        assert answer.status == status
        assert told in opened.page.locator("main").text_content()
        assert faults(opened.page) == []
    viewer = window(key=site.key("vera", "r-viewer"), refuses=True)
    answer = viewer.page.goto(site.url + "/request")
    assert answer.status == 403
    assert "cert.issue" in viewer.page.locator("main").text_content()
    viewer.page.screenshot(path=SCREENSHOTS / "refused-light.png")
