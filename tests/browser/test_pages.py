"""Every page in light, dark and narrow: axe finds nothing, nothing scrolls sideways, a picture is kept to be looked at."""

from __future__ import annotations

import pytest

from browser.conftest import SCREENSHOTS
from browser.looking import LOOKS, faults
from browser.site import HOSTILE, LONG

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


def pages(site) -> dict[str, str]:
    """Every page by the name of its picture."""
    shop = f"/certificates/{site.ids['shop']}"
    return {
        "overview": "/",
        "certificates": "/certificates",
        "certificates-none": "/certificates?q=nothing-is-called-so",
        "certificate": shop,
        "certificate-waiting": f"/certificates/{site.ids['waiting']}",
        "certificate-hostile": f"/certificates/{site.ids['hostile']}",
        "certificate-long": f"/certificates/{site.ids['long']}",
        "certificate-revoked": f"/certificates/{site.ids['gone']}",
        "revoke": f"{shop}/revoke",
        "archive": f"{shop}/archive",
        "request": "/request",
        "find": "/find?q=example.com",
        "jobs": "/jobs",
        "job": f"/jobs/{site.ids['job']}",
        "approvals": "/approvals",
        "agents": "/agents",
        "agent": f"/agents/{site.ids['edge']}",
        "enrol": "/enrol",
        "batches": "/batches",
        "batch": f"/batches/{site.ids['batch']}",
        "violations": "/violations",
        "settings": "/settings",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_for_everybody(site, window, look):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened = window(**LOOKS[look])
    found = {}
    for name, path in pages(site).items():
        page = opened.go(path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found[name] = faults(page) + ([f"scrolls sideways by {wide}"] if wide > 0 else [])
        page.screenshot(path=SCREENSHOTS / f"{name}-{look}.png", full_page=True)
    stranger = window(signed_in=False, **LOOKS[look])
    page = stranger.go("/login")
    found["login"] = faults(page)
    page.screenshot(path=SCREENSHOTS / f"login-{look}.png")
    assert {name: said for name, said in found.items() if said} == {}


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
