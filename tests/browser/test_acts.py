"""What people do here, by clicks, by keyboard and without script; two at once; a session that ends, a server that goes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.looking import walk_to
from browser.site import Host, client_csr

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]
PATIENT = 60_000


def made(site, name: str, **more) -> str:
    body = {"common_name": name} | ({} if "target_ids" in more else {"csr_pem": client_csr(name)}) | more
    return site.call("POST", "/api/v1/certificates", body)["id"]


def test_somebody_signs_in_looks_around_and_signs_out(site, window):
    opened = window(signed_in=False)
    page = opened.go("/certificates?q=shop")
    assert page.url.endswith("/login?then=/certificates%3Fq%3Dshop")
    page.get_by_label("API key").fill(site.admin)
    page.keyboard.press("Enter")
    page.wait_for_url("**/certificates?q=shop")
    page.reload()
    expect(page.get_by_role("heading", name="Certificates")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".verdict h1")).to_contain_text("break")
    page.get_by_role("button", name="Switch theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    opened.go("/certificates")
    assert "/login" in page.url


def test_times_are_told_in_utc_or_as_here_and_the_choice_is_kept(site, window):
    opened = window(timezone_id="Asia/Tokyo")
    page = opened.go("/settings")
    first = page.locator("tbody time").first
    expect(first).to_have_attribute("title", re.compile(r" UTC$"))
    page.get_by_role("button", name="As here: Asia/Tokyo").press("Enter")
    page.wait_for_url("**/settings")
    expect(first).to_have_attribute("title", re.compile(r" JST \(.* UTC\)$"))
    page = opened.go(f"/certificates/{site.ids['shop']}")
    expect(page.locator(".story time").first).to_have_attribute("title", re.compile(r" JST \(.* UTC\)$"))
    page = opened.go("/settings")
    page.get_by_role("button", name="UTC").click()
    expect(first).to_have_attribute("title", re.compile(r"[0-9] UTC$"))
    page = window(java_script_enabled=False).go("/settings")
    page.get_by_label("Or as in").select_option("Europe/Paris")
    page.get_by_role("button", name="Show it so").click()
    expect(page.locator("tbody time").first).to_have_attribute("title", re.compile(r" CES?T \(.* UTC\)$"))


def test_a_certificate_is_requested_and_watched_until_it_is_served_without_a_reload(site, window):
    host = Host(site, "web-07")
    host.target("web-07 :443")
    page = window().go("/request")
    page.get_by_label("Name", exact=True).fill("hello.example.com")
    page.get_by_label("web-07 :443").check()
    page.get_by_role("button", name="Request it").click()
    expect(page.get_by_text("Requested. Each step shows below")).to_be_visible()
    page.evaluate("window.here = true")
    # somebody reads, a little further down, with the keyboard at a link within the part that changes
    page.set_viewport_size({"width": 1280, "height": 400})
    page.get_by_role("link", name="Change", exact=True).focus()
    page.evaluate("scrollTo(0, 50)")
    host.serve()
    expect(page.locator(".head .st")).to_have_text("Proven", timeout=PATIENT)
    expect(page.locator(".story")).to_contain_text("Seen served, by web-07", timeout=PATIENT)
    assert page.evaluate("window.here"), "the page was not loaded anew"
    assert page.evaluate("document.activeElement.textContent") == "Change"
    assert page.evaluate("scrollY") == 50
    page.set_viewport_size({"width": 1280, "height": 720})
    page.get_by_role("button", name="Renew").click()
    expect(page.locator(".head .st")).to_have_text(re.compile("Renewing"), timeout=PATIENT)
    host.serve()
    expect(page.locator(".thread")).to_contain_text("Version 2", timeout=PATIENT)
    page.get_by_role("link", name="Put back version 1").click()
    page.get_by_role("button", name="Put it back").click()
    host.serve()
    expect(page.locator(".story")).to_contain_text("puts an older version back", timeout=PATIENT)
    expect(page.locator(".thread")).to_contain_text("Version 1", timeout=PATIENT)


def test_a_fault_is_said_at_its_field_and_what_was_typed_stays(site, window):
    page = window(refuses=True).go("/request")
    page.get_by_label("Name", exact=True).fill("not a name")
    page.get_by_label("More names").fill("fine.example.com")
    page.get_by_role("button", name="Request it").click()
    expect(page.locator("[aria-invalid], .note.bad").first).to_be_visible()
    assert page.get_by_label("Name", exact=True).input_value() == "not a name"
    assert page.get_by_label("More names").input_value() == "fine.example.com"


def test_one_of_many_is_found_by_keyboard_alone(site, window):
    page = window().go("/certificates")
    page.keyboard.press("/")
    page.keyboard.type("ldap.internal")
    expect(page.locator("#list .name")).to_have_count(1, timeout=PATIENT)
    page.wait_for_url("**/certificates?**q=ldap.internal")
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_visible()
    page.keyboard.type("shop.example")
    expect(page.locator("#palette [aria-selected=true]")).to_contain_text("shop.example.com", timeout=PATIENT)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/certificates/{site.ids['shop']}")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()
    page = page.context.pages[0]
    page.goto(site.url + "/certificates")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("#list .name").first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/certificates/*")


def test_a_filter_is_kept_under_a_name_and_found_by_it(site, window):
    key = site.key("vivian", "r-viewer")
    page = window(key=key).go("/certificates?status=Revoked")
    page.get_by_role("link", name="Keep this view").press("Enter")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("what is gone")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="what is gone")).to_have_attribute("aria-current", "page")
    expect(page.locator("#list .name").first).to_be_visible()
    # on another machine, by the palette; without script renamed and taken away
    elsewhere = window(key=key).go("/")
    elsewhere.keyboard.press("Control+k")
    elsewhere.keyboard.type("what is g")
    expect(elsewhere.locator("#palette [aria-selected=true]")).to_contain_text("what is gone")
    elsewhere.keyboard.press("Enter")
    elsewhere.wait_for_url("**/certificates?status=Revoked")
    page = window(key=key, java_script_enabled=False).go("/views")
    page.get_by_label("New name of what is gone").fill("long gone")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("button", name="Take it away long gone").click()
    expect(page.get_by_text("You keep no view yet")).to_be_visible()


def test_revoking_asks_for_the_name_and_then_says_what_it_did(site, window):
    certificate = made(site, "revoke-me.example.com")
    page = window().go(f"/certificates/{certificate}")
    page.get_by_role("link", name="Revoke").click()
    button = page.get_by_role("button", name="Revoke revoke-me.example.com")
    expect(button).to_be_disabled()
    page.get_by_label("Reason").select_option("keyCompromise")
    page.get_by_label("Type the name").fill("revoke-me.example.org")
    expect(button).to_be_disabled()
    page.get_by_label("Type the name").fill("revoke-me.example.com")
    button.click()
    expect(page.get_by_text("OCSP and CRL say so")).to_be_visible()
    expect(page.locator(".head .st")).to_contain_text("Revoked")
    assert site.call("GET", f"/api/v1/certificates/{certificate}")["revocation_reason"] == "keyCompromise"


def test_everything_that_is_a_form_works_without_script(site, window):
    opened = window(java_script_enabled=False)
    page = opened.go("/certificates")
    page.get_by_label("Search certificates").fill("client.example.com")
    page.get_by_label("Search certificates").press("Enter")
    expect(page.locator("#list .name")).to_have_count(1)
    page.locator("summary", has_text="Filter").click()
    page.get_by_label("State").select_option("Revoked")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile("status=Revoked"))
    certificate = made(site, "scriptless.example.com")
    opened.go(f"/certificates/{certificate}/archive")
    page.get_by_label("Type the name").fill("scriptless.example.com")
    page.get_by_role("button", name="Archive scriptless").click()
    expect(page.get_by_text("Archived. What was issued stays valid")).to_be_visible()
    opened.go("/find?q=shop.example.com")
    page.locator("#found a").first.click()
    expect(page).to_have_url(re.compile("/certificates/"))
    page.get_by_role("button", name="Switch theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login"))


def test_two_people_act_on_one_certificate_at_once(site, window):
    host = Host(site, "both-1")
    target = host.target("both-1 :443")
    certificate = made(site, "both.example.com", target_ids=[target])
    host.serve()
    first, second = window(), window(key=site.key("otto", "r-operator"), refuses=True)
    one, two = first.go(f"/certificates/{certificate}"), second.go(f"/certificates/{certificate}")
    one.get_by_role("button", name="Renew").click()
    expect(one.get_by_text("Renewal has begun.")).to_be_visible()
    expect(two.locator(".head .st")).to_contain_text("Renewing", timeout=PATIENT)
    two.get_by_role("button", name="Renew").click()
    expect(two.get_by_role("heading", name="The state of things does not allow this")).to_be_visible()
    expect(two.locator("main")).to_contain_text("already under way")
    two.get_by_role("link", name="Go back").click()
    host.serve()
    for page in (one, two):
        expect(page.locator(".thread")).to_contain_text("Version 2", timeout=PATIENT)


def test_a_session_that_ends_says_so_and_the_form_is_sent_afterwards(site, window):
    key = site.key("sara", "r-operator")
    opened = window(key=key, refuses=True)
    page = opened.go("/request")
    page.get_by_label("Name", exact=True).fill("kept.example.com")
    for session in site.call("GET", "/api/v1/auth/sessions?actor_id=sara")["sessions"]:
        site.call("DELETE", f"/api/v1/auth/sessions/{session['id']}")
    page.get_by_role("button", name="Request it").click()
    expect(page.locator(".note")).to_contain_text("session")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("dl")).to_contain_text("kept.example.com")
    page.get_by_role("button", name="Send it now").click()
    expect(page.locator("h1")).to_have_text("kept.example.com")


def test_a_server_that_is_gone_is_told_and_nothing_typed_is_lost(site, window):
    opened = window(refuses=True)
    page = opened.go("/request")
    page.get_by_label("Name", exact=True).fill("patience.example.com")
    site.stop()
    try:
        expect(page.locator("#notes")).to_contain_text("No answer from the server", timeout=PATIENT)
        page.get_by_role("button", name="Request it").click()
        assert page.get_by_label("Name", exact=True).input_value() == "patience.example.com"
    finally:
        site.start()
    expect(page.locator("#notes")).not_to_contain_text("No answer", timeout=PATIENT)
    page.get_by_role("button", name="Request it").click()
    expect(page.locator("h1")).to_have_text("patience.example.com", timeout=PATIENT)


def test_many_are_ticked_previewed_and_done_by_keyboard(site, window):
    for number in range(2):
        made(site, f"many-{number}.tick.example.com")
    page = window().go("/certificates?q=tick.example.com")
    expect(page.locator(".bulk")).to_be_hidden()
    for _ in range(2):
        page.keyboard.press("j")
        page.keyboard.press("x")
    expect(page.locator("[data-count]")).to_have_text("2")
    page.get_by_role("button", name="Revoke…").first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Reason").select_option("superseded")
    page.get_by_role("button", name="Preview").press("Enter")
    expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    page.get_by_role("button", name="Do it to 2").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Ended", timeout=PATIENT)
    expect(page.locator("tbody .st.ok")).to_have_count(2, timeout=PATIENT)
    found = site.call("GET", "/api/v1/certificates?q=tick.example.com")["data"]
    assert {row["status"] for row in found} == {"Revoked"}


def test_a_second_person_approves_by_click_and_by_keyboard(site, window):
    # another person's key counts as theirs once they gave it a value that nobody else has seen
    body = {"name": "olgas", "role_ids": ["r-cli"], "person": "olga"}
    shown = site.call("POST", "/api/v1/auth/keys", body)["key_value"]
    own = site.call("POST", "/api/v1/auth/keys/olgas/rotate", {}, key=shown)["key_value"]
    page = window(key=own).go("/approvals")
    page.get_by_role("link", name="mail.example.com").first.click()
    expect(page.locator("main")).to_contain_text("Two people must agree")
    page.get_by_label("Reason").fill("as planned")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved. The work goes on")).to_be_visible()
    wanted = f"/api/v1/certificates/{site.ids['mail.example.com']}"
    site.until(wanted, lambda found: found["status"] == "Active", "it is issued")
    # and another one by keyboard
    page.goto(site.url + "/approvals")
    page.locator("#main").focus()
    walk_to(page, "pay.example.net")
    expect(page.locator("main")).to_contain_text("Two people must agree")
    page.get_by_label("Reason").focus()
    page.keyboard.type("by keyboard")
    page.get_by_role("button", name="Approve").press("Enter")
    expect(page.get_by_text("Approved. The work goes on")).to_be_visible()
    wanted = f"/api/v1/certificates/{site.ids['pay.example.net']}"
    site.until(wanted, lambda found: found["status"] == "Active", "it is issued")


def test_a_host_with_nothing_gets_its_first_certificate_step_by_step(site, window):
    page = window().go("/agents")
    page.get_by_role("link", name="Enrol").first.press("Enter")
    page.get_by_label("Name of the host").fill("web-12")
    page.get_by_role("button", name="Make its token").press("Enter")
    token = page.locator("#cmd-enrol").text_content().partition("ENROLMENT_TOKEN=")[2].split()[0]
    expect(page.locator("#arrived")).to_contain_text("Not heard of yet")
    host = Host(site, "web-12", token)
    page.get_by_role("link", name="Name its server").press("Enter")
    page.get_by_role("link", name="NGINX").press("Enter")
    expect(page.get_by_label("Agent")).to_have_value(host.id)
    page.get_by_label("Name", exact=True).fill("web-12 :443")
    page.get_by_label("Certificate file", exact=True).fill("/etc/nginx/tls/web-12.crt")
    page.get_by_label("Key file", exact=True).fill("/etc/nginx/tls/web-12.key")
    page.get_by_role("button", name="Save").press("Enter")
    page.get_by_role("link", name="Request a certificate").press("Enter")
    expect(page.get_by_label("web-12 :443")).to_be_checked()
    page.get_by_label("Name", exact=True).fill("first.example.com")
    page.get_by_role("button", name="Request it").press("Enter")
    expect(page.locator(".head .st")).to_contain_text("Issuing")
    host.serve()
    expect(page.locator(".head .st")).to_have_text("Proven", timeout=PATIENT)
    expect(page.locator(".story")).to_contain_text("Seen served, by web-12")
