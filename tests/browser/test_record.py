"""The audit log and its seal, keys shown once, roles of one's own, the tree of CAs: by clicks and keyboard."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3

import pytest
from playwright.sync_api import expect

from browser.conftest import SCREENSHOTS
from browser.looking import faults, taken_away

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


def test_the_log_is_filtered_verified_and_taken_away(site, window):
    page = window().go("/audit?q=certificate_revoked")
    row = page.locator("tbody tr", has_text="Revoked by olivia").last
    expect(row).to_contain_text("Revoked by olivia")
    row.get_by_role("link", name="olivia", exact=True).press("Enter")
    expect(page.locator(".chip")).to_contain_text("olivia")
    page.get_by_text("Filter", exact=True).press("Enter")
    page.get_by_label("Action").select_option("config_created")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    told = page.locator("tbody td:nth-child(2) .sub").all_text_contents()
    assert told
    assert {text.partition(" ")[0] for text in told} == {"config_created"}
    page.locator("tbody .name").first.press("Enter")
    expect(page.get_by_role("heading", name="Seal")).to_be_visible()
    expect(page.locator("main")).to_contain_text(re.compile(r"entry \d+ of \d+"))
    page.get_by_role("link", name="Audit").last.press("Enter")
    lines = taken_away(page, page.get_by_role("link", name="Export, sealed")).splitlines()
    assert "seal" in json.loads(lines[-1])
    page.get_by_role("button", name="Verify now").press("Enter")
    expect(page.locator("h1")).to_have_text(re.compile(r"All \d+ events are what was sealed"))
    page.screenshot(path=SCREENSHOTS / "audit-verified-light.png", full_page=True)
    page.get_by_role("link", name="Back to the log").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Unchanged")
    viewer = window(key=site.key("oscar", "r-viewer")).go("/audit")
    expect(viewer.get_by_role("button", name="Verify now")).to_have_count(0)
    expect(viewer.get_by_role("link", name="Export")).to_have_count(0)


def test_a_key_is_made_shown_once_rotated_and_revoked(site, window):
    page = window(refuses=True).go("/keys")
    page.get_by_role("link", name="New key").press("Enter")
    page.get_by_label("Name", exact=True).fill("Deploy Bot")
    page.get_by_role("button", name="Make it").press("Enter")
    expect(page.locator("#h-role_ids")).to_have_text("Tick one at least.")
    page.get_by_label("viewer").press("Space")
    page.get_by_role("button", name="Make it").press("Enter")
    expect(page.locator("#h-name")).to_contain_text("is 3 to 64 characters of a-z")
    expect(page.get_by_label("viewer")).to_be_checked()
    page.get_by_label("Name", exact=True).fill("deploy-bot")
    page.get_by_role("button", name="Make it").press("Enter")
    value = page.locator("#cmd-key").text_content()
    # it works, and is nowhere else
    assert site.call("GET", "/api/v1/auth/me", key=value)["actor_id"] == "deploy-bot"
    page.get_by_role("link", name="I have it").press("Enter")
    assert value not in page.content()
    page.get_by_label("The present value").select_option("3600")
    page.get_by_role("button", name="Rotate it").press("Enter")
    fresh = page.locator("#cmd-key").text_content()
    assert fresh != value
    for each in (fresh, value):
        assert site.call("GET", "/api/v1/auth/me", key=each)["actor_id"] == "deploy-bot"
    page.get_by_role("link", name="I have it").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Two values")
    page.get_by_role("link", name="Revoke…").press("Enter")
    page.get_by_label("Type the name to confirm").fill("deploy-bot")
    page.get_by_role("button", name="Revoke deploy-bot").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Revoked")
    site.call("GET", "/api/v1/auth/me", key=fresh, status=401)


def test_a_role_of_ones_own_is_filled_one_permission_at_a_time(site, window):
    page = window(refuses=True).go("/roles/new")
    page.get_by_label("Name", exact=True).fill("night watch")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("main")).to_contain_text("who has it may do nothing")
    page.get_by_label("Permission", exact=True).select_option("job.read")
    page.get_by_role("button", name="Add it").press("Enter")
    expect(page.locator("tbody")).to_contain_text("job.read")
    page.get_by_label("Permission", exact=True).select_option("audit.read")
    page.get_by_label("How far").select_option("team")
    page.get_by_label("Id of the team").fill(site.ids["team"])
    page.get_by_role("button", name="Add it").press("Enter")
    expect(page.locator(".note.bad")).to_contain_text("can be limited by nothing")
    page.get_by_role("button", name="Take job.read out").press("Enter")
    expect(page.locator("main")).to_contain_text("who has it may do nothing")
    page = window().go("/roles/r-viewer")
    expect(page.get_by_role("button", name="Take")).to_have_count(0)


def test_a_successor_takes_over_and_the_one_before_it_retires(site, window):
    page = window(refuses=True).go("/issuers/iss-local")
    page.get_by_role("link", name="Its CAs").press("Enter")
    expect(page.locator("tbody tr").first).to_contain_text("Root")
    expect(page.locator("tbody tr").nth(1)).to_contain_text("Issues")
    page.get_by_role("link", name="Make a successor").press("Enter")
    page.get_by_label("Called here").fill("Issuing CA, second")
    page.get_by_label("Life in days").fill("9999")
    page.get_by_role("button", name="Make it").press("Enter")
    expect(page.locator("#h-ttl_days")).to_have_text("From 1 to 7,305.")
    page.get_by_label("Life in days").fill("700")
    page.get_by_role("button", name="Make it").press("Enter")
    made = page.locator("tbody tr", has_text="Issuing CA, second")
    expect(made).to_contain_text("Issues")
    old = page.locator("tbody tr", has_text="Retiring")
    expect(old).to_have_count(1)
    assert faults(page) == []
    old.get_by_role("link", name="Retire…").press("Enter")
    page.get_by_label("Type the name to confirm").fill(page.locator("#h-typed").text_content())
    page.get_by_role("button", name="Retire certctl").press("Enter")
    expect(page.locator(".note.bad")).to_contain_text("still needed by")
    page.get_by_role("link", name="Keep it as it is").press("Enter")
    # what was made last is replaced again, and then revoked: what was issued so far does not hang on it
    page.get_by_role("link", name="Make a successor").press("Enter")
    page.get_by_label("Called here").fill("Issuing CA, third")
    page.get_by_role("button", name="Make it").press("Enter")
    second = page.locator("tbody tr", has_text="Issuing CA, second")
    expect(second).to_contain_text("Retiring")
    expect(page.locator("tbody tr").first.get_by_role("link", name="Revoke…")).to_have_count(0)
    second.get_by_role("link", name="Revoke…").press("Enter")
    expect(page.locator("main")).to_contain_text("this cannot be taken back")
    button = page.get_by_role("button", name="Revoke Issuing CA, second")
    expect(button).to_be_disabled()
    page.get_by_label("Type the name to confirm").fill("Issuing CA, second")
    button.press("Enter")
    expect(page.locator(".note.bad")).to_contain_text("Choose a reason")
    assert faults(page) == []
    page.get_by_label("Reason").select_option("superseded")
    page.get_by_label("Type the name to confirm").fill("Issuing CA, second")
    button.press("Enter")
    expect(page.locator("#notes")).to_contain_text("CRL of the CA above it says so")
    expect(second).to_contain_text("Revoked")
    expect(second.get_by_role("link", name="Revoke…")).to_have_count(0)
    (gone,) = [ca for ca in site.call("GET", "/api/v1/issuers/iss-local/intermediates")["data"] if ca.get("revoked_at")]
    assert (gone["name"], gone["revocation_reason"]) == ("Issuing CA, second", "superseded")


def test_names_that_a_ca_refused_too_often_are_resumed_by_a_click(site, window):
    """The row is put there: which CA refused, and when, is tests/protocol/test_ca_asks.py's to show."""
    columns = "tenant_id, issuer_id, names_hash, certificate_id, names, reason, failures, paused_at"
    row = ("t-default", "iss-local", "0" * 64, "mc-none", "blocked.test", "not for us", 5, "2026-01-01 00:00:00.000000")
    with contextlib.closing(sqlite3.connect(site.directory / "certctl.db", timeout=60)) as database, database:
        database.execute(f"INSERT INTO ca_pauses ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    page = window().go("/issuers/iss-local/account")
    paused = page.locator("tbody tr", has_text="blocked.test")
    expect(paused).to_contain_text("5 refusals running")
    expect(paused).to_contain_text("not for us")
    assert faults(page) == []
    paused.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator("#notes")).to_contain_text("the CA is asked again")
    expect(page.locator("main")).to_contain_text("Nothing is paused")
