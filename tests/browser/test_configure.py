"""What is set up by forms, by clicks and keyboard: faults at their fields, tests, two editors at once, names that harm."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.conftest import SCREENSHOTS
from browser.looking import faults

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


def found(site, path: str, name: str) -> dict:
    """The one of this name, as the API tells it."""
    (one,) = [row for row in site.call("GET", f"/api/v1{path}")["data"] if row["name"] == name]
    return one


def test_a_target_is_set_up_by_keyboard_and_told_what_is_wrong_at_the_field(site, window):
    page = window(refuses=True).go("/targets")
    page.get_by_role("link", name="New target").press("Enter")
    page.get_by_role("link", name="Postfix").press("Enter")
    page.get_by_label("Name", exact=True).fill("mail-01 :25")
    page.get_by_label("Agent").select_option(label="edge-ams-01")
    page.get_by_label("Certificate file", exact=True).fill("mail.crt")
    page.get_by_role("button", name="Save").press("Enter")
    # the API's own sentence, with the form's words, at the first field it speaks of
    field = page.get_by_label("Certificate file", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[id='h-config.cert_path']")).to_contain_text("Give “Certificate file” and “Key file”")
    assert field.input_value() == "mail.crt"
    assert faults(page) == []
    page.screenshot(path=SCREENSHOTS / "target-faults-light.png", full_page=True)
    field.fill("/etc/postfix/tls/mail.crt")
    page.get_by_label("Key file", exact=True).fill("/etc/postfix/tls/mail.key")
    page.get_by_label("Key file", exact=True).press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    made = found(site, "/targets", "mail-01 :25")
    # what is as by default stays unsaid
    assert made["config"] == {"cert_path": "/etc/postfix/tls/mail.crt", "key_path": "/etc/postfix/tls/mail.key"}
    page.get_by_role("button", name="Test it").press("Enter")
    expect(page.locator(".note")).to_contain_text("Agent edge-ams-01 is")
    # whether the agent was heard of in time is the machine's affair; that the page tells what the API keeps is ours
    word = {"success": "The test went well", "failed": "The test failed"}
    expect(page.locator(".note")).to_contain_text(word[found(site, "/targets", "mail-01 :25")["test_status"]])


def test_two_editors_never_overwrite_one_another(site, window):
    profile = site.call("POST", "/api/v1/profiles", {"name": "for two"})
    first, second = window(), window(refuses=True)
    for each in (first, second):
        each.go(f"/profiles/{profile['id']}")
        each.page.get_by_label("Description").fill("first" if each is first else "second")
    first.page.get_by_label("Longest life").fill("86400")
    first.page.get_by_role("button", name="Save").click()
    expect(first.page.locator("#notes")).to_contain_text("Saved")
    page = second.page
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Somebody changed it while you were writing")).to_be_visible()
    row = page.locator(".diff tr", has_text="Description")
    expect(row.locator("del")).to_have_text("first")
    expect(row.locator("ins")).to_have_text("second")
    expect(page.locator(".diff")).to_contain_text("86400")
    assert page.get_by_label("Description").input_value() == "second"
    assert site.call("GET", f"/api/v1/profiles/{profile['id']}")["description"] == "first"
    page.screenshot(path=SCREENSHOTS / "two-editors-light.png", full_page=True)
    page.get_by_label("Longest life").fill("86400")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notes")).to_contain_text("Saved")
    now = site.call("GET", f"/api/v1/profiles/{profile['id']}")
    assert (now["description"], now["max_ttl_seconds"]) == ("second", 86_400)


def test_a_policy_is_tried_before_it_is_saved(site, window):
    page = window(refuses=True).go("/policies/new?type=AllowedDomains")
    page.get_by_label("Name", exact=True).fill("ours alone")
    page.get_by_label("Names must match one of").fill("*.example.net")
    page.get_by_role("button", name="Try it").press("Enter")
    expect(page.locator("#h-try")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="looked at")).to_contain_text("break it")
    assert not [row for row in site.call("GET", "/api/v1/policies")["data"] if row["name"] == "ours alone"]
    page.get_by_label("Names must match one of").fill("*.*.example.net")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator(".err")).to_have_count(1)
    page.get_by_label("Names must match one of").fill("*.example.net\n*.example.com")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    rule = found(site, "/policies", "ours alone")
    assert rule["config"] == {"allowed_domains": ["*.example.net", "*.example.com"]}
    page.get_by_role("link", name="Delete…").press("Enter")
    delete = page.get_by_role("button", name="Delete ours alone")
    expect(delete).to_be_disabled()
    page.get_by_label("Type the name to confirm").fill("ours alone")
    delete.press("Enter")
    expect(page.locator("#notes")).to_contain_text("Deleted")
    assert not [row for row in site.call("GET", "/api/v1/policies")["data"] if row["name"] == "ours alone"]


def test_what_is_still_named_stays_and_a_number_out_of_bounds_is_told_in_words(site, window):
    page = window(refuses=True).go(f"/teams/{site.ids['team']}/delete")
    page.get_by_label("Type the name to confirm").fill("storefront")
    page.get_by_role("button", name="Delete storefront").click()
    expect(page.locator(".note.bad")).to_contain_text("still named by")
    assert site.call("GET", f"/api/v1/teams/{site.ids['team']}")["name"] == "storefront"
    page = window(refuses=True).go("/renewal-policies/new")
    page.get_by_label("Name", exact=True).fill("early")
    page.get_by_label("Renew so many days before the end").fill("400")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Tries", exact=True).fill("many")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#h-renewal_window_days")).to_have_text("From 1 to 365.")
    expect(page.locator("#h-max_retries")).to_have_text("A whole number, such as 10.")
    expect(page.locator(".note.bad")).to_contain_text("2 fields are not right yet")
    page.get_by_label("Renew so many days before the end").fill("20")
    page.get_by_label("Or: renew when this part").fill("0.5")
    page.get_by_label("Tries", exact=True).fill("4")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#h-renewal_window_fraction")).to_contain_text("not both")
    page.get_by_label("Renew so many days before the end").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notes")).to_contain_text("Saved")
    policy = found(site, "/renewal-policies", "early")
    assert (policy["renewal_window_days"], policy["renewal_window_fraction"]) == (None, 0.5)
    assert (policy["max_retries"], policy["alert_thresholds_days"]) == (4, [30, 14, 7, 0])
