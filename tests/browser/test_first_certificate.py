"""The whole way with nothing played: a real agent, run by the command that the page gave, and a real NGINX that serves;
a first certificate, its renewal and the way back, by keyboard alone, then by clicks.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.looking import faults, taken_away, walk_to
from peers.nginx import Nginx

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


@pytest.fixture
def nginx(tmp_path) -> Iterator[Nginx]:
    (tmp_path / "nginx").mkdir()
    made = Nginx(tmp_path / "nginx", name="first-of-all.example.com")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def run(site, nginx, tmp_path) -> Iterator:
    """Runs a command as somebody on the host would who pasted it there."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: str) -> None:
        words = shlex.split(command)
        assert words[-1] == "certctl-agent"
        host = {
            "PATH": os.environ["PATH"],
            "CERTCTL_AGENT_STATE_DIR": str(tmp_path / "state"),
            "CERTCTL_KEY_DIR": str(tmp_path / "keys"),
            "CERTCTL_AGENT_ALLOW_FILE": str(nginx.allow_file),
        }
        given = dict(word.split("=", 1) for word in words[:-1])
        with (tmp_path / "agent.log").open("wb") as log:
            program = str(Path(sys.executable).with_name("certctl-agent"))
            # the root certificate lies where the command is run
            running.append(subprocess.Popen([program], env=host | given, cwd=site.directory, stdout=log, stderr=log))

    yield start
    for process in running:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_a_host_gets_its_first_certificate_from_a_real_agent(site, window, nginx, run):
    page = window().go("/")
    # there by the palette, as somebody does who knows the word
    page.keyboard.press("Control+k")
    page.keyboard.type("enrol")
    expect(page.locator("#palette [aria-selected=true]")).to_contain_text("Enrol")
    page.keyboard.press("Enter")
    page.wait_for_url("**/enrol")
    page.get_by_label("Name of the host").focus()
    page.keyboard.type("host-of-its-own")
    page.keyboard.press("Enter")
    run(page.locator("#cmd-enrol").text_content())
    link = page.get_by_role("link", name="Name its server")
    expect(link).to_be_visible()
    link.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="NGINX").press("Enter")
    for label, text in (
        ("Name", "its nginx"),
        ("Certificate file", str(nginx.cert_path)),
        ("Key file", str(nginx.key_path)),
        ("Where it is served", nginx.endpoint),
    ):
        page.get_by_label(label, exact=True).focus()
        page.keyboard.press("Control+a")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Request a certificate").press("Enter")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type(nginx.name)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Requested. Each step shows below")).to_be_visible()
    page.evaluate("window.here = true")
    expect(page.locator(".head .st")).to_have_text("Proven")
    expect(page.locator(".story")).to_contain_text("Seen served, by host-of-its-own")
    assert page.evaluate("window.here"), "the page was not loaded anew"
    certificate = page.url.partition("/certificates/")[2].partition("?")[0]
    assert nginx.served() == version(site, certificate, "current")["fingerprint_sha256"]
    first = nginx.served()
    page.get_by_role("button", name="Renew").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".thread")).to_contain_text("Version 2")
    expect(page.locator(".head .st")).to_have_text("Proven")
    assert nginx.served() == version(site, certificate, "current")["fingerprint_sha256"] != first
    # and back, by clicks
    page.get_by_role("link", name="Put back version 1").click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator(".thread")).to_contain_text("Version 1")
    expect(page.locator(".head .st")).to_have_text("Proven")
    assert nginx.served() == first
    # what the two have in common is folded, what differs stands there
    page.goto(page.url.partition("?")[0])
    expect(page.locator(".diff")).to_contain_text("Serial")
    exported = taken_away(page, page.get_by_role("button", name=re.compile("Export|Download")))
    assert "BEGIN CERTIFICATE" in exported
    seen_to_break_and_put_right(site, page, nginx, certificate)
    renewed_with_others_by_clicks(page, nginx)
    page.goto(f"{site.url}/certificates/{certificate}")
    expect(page.locator(".thread")).to_contain_text("Version 4")
    expect(page.locator(".head .st")).to_have_text("Proven")
    assert nginx.served() == version(site, certificate, "current")["fingerprint_sha256"]
    watched_until_it_goes(page, nginx)


def seen_to_break_and_put_right(site, page, nginx, certificate: str) -> None:
    """A short life that nobody renews: told on the overview, on its day, as a broken rule; each leads to its cure."""
    site.call("POST", "/api/v1/renewal-policies", {"name": "by hand", "renewal_window_days": 3, "auto_renew": False})
    site.call("POST", "/api/v1/owners", {"name": "night watch", "email": "night@example.com"})
    page.get_by_role("link", name="Change", exact=True).click()
    page.get_by_label("Renewal policy").select_option(label="by hand")
    page.get_by_label("Wished life").fill("864000")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notes")).to_contain_text("Saved")
    page.get_by_role("button", name="Renew").click()
    expect(page.locator(".thread")).to_contain_text("Version 3")
    expect(page.locator(".head .st")).to_have_text("Proven")
    # by clicks
    page.get_by_role("link", name="Overview").click()
    row = page.locator(".brk tbody tr", has_text=nginx.name)
    expect(row).to_contain_text("by hand does not renew by itself")
    expect(page.locator(".verdict h1")).to_contain_text("will break within 14 days")
    row.get_by_role("link", name=f"Renew {nginx.name}").click()
    page.wait_for_url(f"**/certificates/{certificate}")
    page.go_back()
    day = page.locator(".heat a[aria-label*='cannot renew']")
    day.click()
    expect(page.locator("#list .name", has_text=nginx.name)).to_be_visible()
    page.go_back()
    page.get_by_text("As a table, by week").click()
    expect(page.get_by_role("columnheader", name="Most on a day")).to_be_visible()
    # by keyboard
    page.get_by_text("As a table, by week").press("Enter")
    expect(page.get_by_role("columnheader", name="Most on a day")).to_be_hidden()
    day.press("Enter")
    page.wait_for_url("**/certificates?expires_after=*")
    expect(page.locator("#list .name", has_text=nginx.name)).to_be_visible()
    page.go_back()
    page.locator("#main").focus()
    page.keyboard.press("j")
    expect(page.locator(".brk .name").first).to_be_focused()
    walk_to(page, nginx.name)
    page.wait_for_url(f"**/certificates/{certificate}")
    # what breaks a rule leads to the field where that ends
    page.keyboard.press("Control+k")
    page.keyboard.type("> policies")
    expect(page.locator("#palette [aria-selected=true]")).to_contain_text("Policies")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Violations").press("Enter")
    broken = page.locator("tbody tr", has_text=nginx.name)
    broken.get_by_role("link", name="Say who owns it").press("Enter")
    page.wait_for_url("**/edit#f-owner_id")
    # from the field that the address names, the next stop is the one behind it
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Owner")).to_be_focused()
    page.keyboard.type("night watch")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    page.goto(f"{site.url}/violations")
    # another rule may still be broken
    expect(page.locator("h1")).to_have_text("Violations")
    expect(broken.get_by_role("link", name="Say who owns it")).to_have_count(0)


def renewed_with_others_by_clicks(page, nginx) -> None:
    """A batch of one, ticked, previewed and done with nothing but the mouse; the real agent does the work."""
    page.get_by_role("link", name="Certificates").click()
    page.get_by_label(f"Select {nginx.name}").click()
    expect(page.locator("[data-count]")).to_have_text("1")
    page.locator(".bulk").get_by_role("button", name="Renew…").click()
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    page.get_by_role("button", name="Do it to 1").click()
    expect(page.locator(".head .st")).to_have_text("Ended")
    expect(page.locator("tbody .st.ok")).to_have_count(1)


def watched_until_it_goes(page, nginx) -> None:
    """The deployment's own health check: healthy, then the server is gone; told live, known of by keyboard."""
    page.get_by_role("link", name=nginx.endpoint).press("Enter")
    page.get_by_role("link", name="Change it").press("Enter")
    expect(page.get_by_label("Endpoint", exact=True)).to_have_count(0)
    page.get_by_text("More", exact=True).press("Enter")
    page.get_by_label("Degraded after").fill("1")
    page.get_by_label("Down after").fill("1")
    page.get_by_label("Looked at every").fill("10")
    # an edit has it looked at at once; each look after that is told here as it happens
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Healthy")
    page.evaluate("window.here = true")
    expect(page.locator(".kv").first).to_contain_text(nginx.served())
    expect(page.get_by_role("img", name=re.compile("Healthy for"))).to_be_visible()
    nginx.stop()
    expect(page.locator(".head .st")).to_have_text("Down")
    assert page.evaluate("window.here"), "the page was not loaded anew"
    expect(page.locator(".note.bad")).to_contain_text("No connection")
    assert faults(page) == []
    page.get_by_role("button", name="I know of it").press("Enter")
    expect(page.locator("#notes")).to_contain_text("known to you")
    expect(page.locator("#check")).to_contain_text("Known to olivia")
    page.get_by_role("link", name="Health checks").first.press("Enter")
    page.get_by_role("link", name="Down").press("Enter")
    expect(page.locator("tbody")).to_contain_text("known to olivia")


def version(site, certificate: str, status: str) -> dict:
    """The version of a certificate that is in a state."""
    rows = site.call("GET", f"/api/v1/certificates/{certificate}/versions")["data"]
    (found,) = [row for row in rows if row["status"] == status]
    return found
