"""How a page is looked at: by axe, by its width, by a picture that is kept to be looked at by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from playwright.sync_api import Locator, Page

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


# what the colours of a theme decide; everything else axe looks at is the same in both
COLOURS = ["color-contrast", "link-in-text-block"]
# stops of the Tab key, in their order: none pulled forward, the first leads past the navigation, none goes back up the page
_STOPS = """() => {
  const wrong = [], name = e => e.tagName + ' ' + (e.textContent || e.name || '').trim().slice(0, 40);
  const seen = e => !e.disabled && e.tabIndex >= 0 && e.type !== 'hidden' && e.checkVisibility({ visibilityProperty: true });
  const all = [...document.querySelectorAll('a[href],button,input,select,textarea,summary,[tabindex]')].filter(seen);
  all.filter(e => e.tabIndex > 0).forEach(e => wrong.push('is pulled forward: ' + name(e)));
  if (!all[0]?.matches('.skip')) wrong.push('the first stop is ' + name(all[0]));
  let last = 0, from = '', row = null;
  for (const e of all.filter(each => each.closest('main'))) {
    const top = e.getBoundingClientRect().top + scrollY;
    if (top < last - 80 && !(row && row === e.closest('tr'))) wrong.push(`the Tab key goes back up from ${from} to ${name(e)}`);
    last = top; from = name(e); row = e.closest('tr');
  }
  return wrong;
}"""
_HARM = "document.title === 'owned' || document.querySelectorAll('main script, main img, main style').length > 0"


def faults(page: Page, only: Sequence[str] = ()) -> list[str]:
    """What axe finds, with where."""
    page.evaluate(AXE)
    page.evaluate("document.activeElement?.blur()")
    found = page.evaluate(
        "wanted => axe.run(document, {runOnly: wanted})"
        ".then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary)"
        ".slice(0, 3).join(' | ')))",
        {"type": "rule", "values": list(only)} if only else {"type": "tag", "values": RULES},
    )
    return list(found)


def taken_away(page: Page, control: Locator) -> str:
    """The text of the file that a click brings; clicked again where the browser itself gave up, as on a busy machine."""
    for _ in range(3):
        with page.expect_download() as begun:
            control.click()
        failure = begun.value.failure()
        if failure is None:
            return Path(begun.value.path()).read_text()
    raise AssertionError(f"the download did not end: {failure}")


def walk_to(page: Page, name: str) -> None:
    """Down the list by `j` until a name has the focus, and in."""
    for _ in range(50):
        if name in page.evaluate(
            "document.activeElement.matches('.name, .queue a') && document.activeElement.textContent || ''"
        ):
            page.keyboard.press("Enter")
            return
        page.keyboard.press("j")
    raise AssertionError(f"{name} is none of the names of this page")


def look_at(opened: Window, paths: Mapping[str, str]) -> dict[str, list[str]]:
    """What is wrong with pages that are opened once and seen in light, dark and narrow; nothing is good.

    axe looks whole at the light page and at the narrow dark one; at the other two for what their colours decide.
    """
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    wrong: dict[str, list[str]] = {}
    # a colour that is on its way from one to the other is neither
    opened.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    for name, path in paths.items():
        answer = opened.page.goto(opened.site.url + path)
        page = opened.page
        said = [] if answer is not None and answer.status == 200 else [f"is not answered: {answer and answer.status}"]
        page.evaluate(_OPEN)
        said += faults(page) + _sideways(page)
        page.screenshot(path=SCREENSHOTS / f"{name}-light.png", full_page=True)
        page.emulate_media(color_scheme="dark")
        said += [f"dark: {each}" for each in faults(page, COLOURS)]
        page.screenshot(path=SCREENSHOTS / f"{name}-dark.png", full_page=True)
        page.set_viewport_size(LOOKS["narrow"]["viewport"])
        said += [f"dark, narrow: {each}" for each in faults(page)]
        page.emulate_media(color_scheme="light")
        said += [f"narrow: {each}" for each in faults(page, COLOURS) + _sideways(page) + page.evaluate(_STOPS)]
        page.screenshot(path=SCREENSHOTS / f"{name}-narrow.png", full_page=True)
        page.set_viewport_size(LOOKS["light"]["viewport"])
        if page.evaluate(_HARM):
            said.append("a name did harm")
        if said:
            wrong[name] = said
    return wrong


def _sideways(page: Page) -> list[str]:
    wide = page.evaluate(_WIDE)
    return [f"scrolls sideways by {wide}"] if wide > 0 else []
