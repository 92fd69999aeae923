"""Debian's Chromium, driven by Playwright, before a real control plane. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from browser.site import Site, furnish, open_site

# a busy machine is slow and means the same
expect.set_options(timeout=60_000)

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """One control plane for all of these tests."""
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        opened.ids = furnish(opened)
        yield opened


# no longer than these tests: while it is open its event loop counts as running, and no other test can have one
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser."""
    path = shutil.which("chromium")
    assert path, "Debian's chromium is not installed: scripts/install-peers chromium"
    # a container's root has no user namespaces for the sandbox; the pages are our own
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Window:
    """One browser window with what went wrong in it."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context, self.site = context, site
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.said: list[str] = []
        self.refuses = False
        self.foreign: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self._look(request.url))

    def expects(self, said: str) -> bool:
        """Whether it is the browser's own word for an answer that is no success, where that is what is tried."""
        return self.refuses and said.startswith("error: Failed to load resource: ")

    def _look(self, url: str) -> None:
        if not url.startswith(self.site.url + "/"):
            self.foreign.append(url)

    def go(self, path: str) -> Page:
        self.page.goto(self.site.url + path)
        return self.page


@pytest.fixture
def window(chromium, site) -> Iterator[Callable[..., Window]]:
    """Opens windows; in the end none has said anything on its console nor asked another host. In one that `refuses` the
    browser may say that the server refused a form or was gone, and nothing else.
    """
    opened: list[Window] = []

    def open_window(*, signed_in: bool = True, key: str = "", refuses: bool = False, **more) -> Window:
        usual = {"locale": "en-GB", "timezone_id": "UTC"}
        context = chromium.new_context(ignore_https_errors=True, **usual | more)
        found = Window(context, site)
        found.refuses = refuses
        opened.append(found)
        if signed_in:
            context.add_cookies(site.cookies(key))
            found.go("/")
        return found

    yield open_window
    for each in opened:
        each.context.close()
    assert [said for each in opened for said in each.said if not each.expects(said)] == []
    assert [url for each in opened for url in each.foreign] == []
