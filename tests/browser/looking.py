"""How a page is looked at: by axe, by its width, by a picture that is kept to be looked at by people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Page

from browser.conftest import SCREENSHOTS, Window

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 360, "height": 780}},
}
_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true })"


def faults(page: Page, only: str = "") -> list[str]:
    """What axe finds, with where."""
    page.evaluate(AXE)
    page.evaluate("document.activeElement?.blur()")
    found = page.evaluate(
        "wanted => axe.run(document, {runOnly: wanted})"
        ".then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary)"
        ".slice(0, 3).join(' | ')))",
        {"type": "rule", "values": [only]} if only else {"type": "tag", "values": RULES},
    )
    return list(found)


def look_at(opened: Window, paths: Mapping[str, str]) -> dict[str, list[str]]:
    """What is wrong with pages that are opened once and seen in light, dark and narrow; nothing is good."""
    wrong: dict[str, list[str]] = {}
    # a colour that is on its way from one to the other is neither
    opened.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    for name, path in paths.items():
        page = opened.go(path)
        page.evaluate(_OPEN)
        said = faults(page) + _sideways(page)
        page.screenshot(path=SCREENSHOTS / f"{name}-light.png", full_page=True)
        page.emulate_media(color_scheme="dark")
        said += [f"dark: {each}" for each in faults(page, only="color-contrast")]
        page.screenshot(path=SCREENSHOTS / f"{name}-dark.png", full_page=True)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(LOOKS["narrow"]["viewport"])
        said += [f"narrow: {each}" for each in _sideways(page)]
        page.screenshot(path=SCREENSHOTS / f"{name}-narrow.png", full_page=True)
        page.set_viewport_size(LOOKS["light"]["viewport"])
        if said:
            wrong[name] = said
    return wrong


def _sideways(page: Page) -> list[str]:
    wide = page.evaluate(_WIDE)
    return [f"scrolls sideways by {wide}"] if wide > 0 else []
