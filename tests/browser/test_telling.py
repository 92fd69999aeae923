"""Channels set up by forms and tried, what did not arrive sent again, an ACME issuer's secrets kept, groups of agents,
a CA revoked: by clicks and keyboard.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from browser.looking import faults
from browser.test_configure import found

# one control plane and one browser for all of them
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


class Hook:
    """Somebody who is told by webhook, and may be told to refuse."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.answer = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append(json.loads(body) | {"signed": "X-Certctl-Signature" in self.headers})
                self.send_response(hook.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_given: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/told"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(10)


def test_a_channel_is_set_up_tried_and_what_did_not_arrive_is_sent_again(site, window, hook):
    opened = window(refuses=True)
    page = opened.go("/notifications")
    page.get_by_role("link", name="Channels").press("Enter")
    page.get_by_role("link", name="New channel").first.press("Enter")
    page.get_by_role("link", name="Webhook").press("Enter")
    page.get_by_label("Name", exact=True).fill("whoever is on call")
    # the browser itself asks for what is needed
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.get_by_label("Address", exact=True)).to_be_focused()
    page.get_by_label("Address", exact=True).fill("not an address")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.get_by_label("Address", exact=True)).to_have_attribute("aria-invalid", "true")
    assert faults(page) == []
    page.get_by_label("Address", exact=True).fill(hook.url)
    page.get_by_label("Key of the signature").fill("s3cret of the hook")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    assert "s3cret of the hook" not in page.content()
    page.get_by_role("button", name="Test it").press("Enter")
    expect(page.locator(".note.ok").last).to_contain_text("The test went well")
    assert [each["signed"] for each in hook.got] == [True]
    # another name leaves the secrets as they are, and a secret that is not needed can go
    page.get_by_label("Name", exact=True).fill("night watch")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_have_text("night watch")
    made = found(site, "/notification-channels", "night watch")
    assert made["secrets"] == ["secret", "url"]
    page.get_by_label("Take it away").first.check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notes")).to_contain_text("Saved")
    assert found(site, "/notification-channels", "night watch")["secrets"] == ["url"]
    hook.answer = 503
    name = "tell-me.example.com"
    page = opened.go("/request")
    certificate = site.issued(name)
    site.call("POST", f"/api/v1/certificates/{certificate}/revoke", {"reason": "superseded"})
    told = f"/api/v1/notifications?type=Revocation&certificate_id={certificate}"
    site.until(told, lambda rows: [row["status"] for row in rows["data"]] == ["failed"], "it did not arrive")
    hook.answer = 204
    page = opened.go("/notifications")
    page.get_by_role("link", name="Tried again").press("Enter")
    row = page.locator("tbody tr", has_text="was revoked").filter(has_text=name)
    expect(row).to_contain_text("503")
    row.locator(".name").press("Enter")
    page.get_by_role("button", name="Send it again").press("Enter")
    expect(page.locator("#notes")).to_contain_text("on its way again")
    expect(page.locator(".head .st")).to_have_text("Sent")
    page.get_by_role("button", name="I have read it").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Read")
    assert [each["certificate_id"] for each in hook.got if each["notification_type"] == "Revocation"][-1] == certificate
    # the certificate's own story tells it, too
    page = opened.go(f"/certificates/{certificate}")
    line = page.locator(".story li", has_text="Told to night watch, and read")
    expect(line).to_contain_text("was revoked")
    line.get_by_role("link", name="how it went").press("Enter")
    expect(page.locator(".head .st")).to_have_text("Read")
    channel = made["id"]
    opened.go(f"/notification-channels/{channel}/delete")
    page.get_by_label("Type the name to confirm").fill("night watch")
    page.get_by_role("button", name="Delete night watch").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Deleted")


def test_an_acme_issuer_keeps_the_secrets_that_are_not_typed_again(site, window):
    page = window(refuses=True).go("/issuers")
    page.get_by_role("link", name="New issuer").press("Enter")
    page.get_by_role("link", name="ACME").press("Enter")
    page.get_by_label("Name", exact=True).fill("a CA elsewhere")
    page.get_by_label("Directory", exact=True).fill("https://acme.invalid/directory")
    page.get_by_label("Its terms of service are agreed to").check()
    page.get_by_label("Key id of an external account").fill("kid-1")
    page.get_by_label("Key of an external account").fill("bm90IGEgc2VjcmV0IG9mIGFueWJvZHk")
    veil = "each => getComputedStyle(each).webkitTextSecurity"
    assert page.get_by_label("Key of an external account").evaluate(veil) == "disc"
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    made = found(site, "/issuers", "a CA elsewhere")
    assert made["config"]["eab_hmac"] == "[redacted]"
    assert "bm90IGEgc2VjcmV0" not in page.content()
    expect(page.get_by_text("It is set, and never shown").first).to_be_visible()
    page.get_by_label("Key id of an external account").fill("kid-2")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    kept = found(site, "/issuers", "a CA elsewhere")["config"]
    assert (kept["eab_kid"], kept["eab_hmac"]) == ("kid-2", "[redacted]")
    assert faults(page) == []
    page.get_by_role("button", name="Test it").press("Enter")
    expect(page.locator(".note.bad")).to_contain_text("The test failed")


def test_a_group_is_previewed_before_it_is_saved_and_shows_its_agents(site, window):
    page = window(refuses=True).go("/agent-groups/new")
    page.get_by_label("Name", exact=True).fill("linux hosts")
    page.get_by_label("System", exact=True).fill("linux")
    page.get_by_label("Network", exact=True).fill("10.0.0.1/8")
    page.get_by_role("button", name="Try it").press("Enter")
    expect(page.locator(".err")).to_contain_text("bits set beyond its prefix")
    page.get_by_label("Network", exact=True).fill("")
    page.get_by_role("button", name="Try it").press("Enter")
    expect(page.locator("#h-try")).to_be_visible()
    expect(page.get_by_role("link", name="edge-ams-01")).to_be_visible()
    assert not [row for row in site.call("GET", "/api/v1/agent-groups")["data"] if row["name"] == "linux hosts"]
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#notes")).to_contain_text("Saved")
    page.get_by_role("link", name="Its agents").press("Enter")
    expect(page.locator("h1")).to_have_text("Agents of linux hosts")
    page.get_by_label("Search agents").fill("edge")
    page.get_by_label("Search agents").press("Enter")
    page.get_by_role("link", name="edge-ams-01").first.click()
    expect(page.locator("h1")).to_have_text("edge-ams-01")
    expect(page.locator("dl.kv")).to_contain_text("linux hosts")
