"""What people read: spans, moments, names of others, and that every sentence can be translated."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import jinja2
import pytest
from babel.messages.extract import extract
from hypothesis import given
from hypothesis import strategies as st

from certctl.web import pages, words
from certctl.web.axis import around, day_ticks, heat, life

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WEB = Path(pages.__file__).parent
TEMPLATES = sorted((WEB / "templates").glob("*.html"))
MODULES = sorted(WEB.rglob("*.py"))
# what looks like a sentence and is a word of the API, of HTTP or of a time zone
_NO_SENTENCES = frozenset({
    "Location", "Vary", "Any", "Act", "Counted", "Dashboard", "Etc", "Pending", "Revoked", "Archived", "Issuance",
    "Renewal", "Deployment", "Validation", "Revocation", "signed in", "signed out",
})  # fmt: skip
# what is said by all doors alike is in English, as the API's own refusals are
_OF_ALL_DOORS = frozenset({
    "renewal failed: ", "there is nothing at ", "verifying the audit seal", "a field cannot be read", "a form holds no NUL character",
})  # fmt: skip
# what is no language: the product's name, keys of the keyboard, marks
_SAME_EVERYWHERE = re.compile(r"certctl|Ctrl K|Esc|UTC")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (38, "38 s"),
        (60, "1 m"),
        (3599, "59 m"),
        (3600, "1 h"),
        (5 * 3600 + 48 * 60, "5 h 48 m"),
        (2 * 86_400 + 3 * 3600, "2 d 3 h"),
        (2 * 86_400, "2 d"),
        (102 * 86_400 + 5, "102 d"),
        (1_500 * 86_400, "1,500 d"),
        (-90, "1 m"),
    ],
)
def test_a_span_has_two_units_at_most(seconds, told):
    assert words.span(timedelta(seconds=seconds)) == told


def test_moments_are_told_from_now():
    assert words.relative(NOW, NOW) == "just now"
    assert words.relative(NOW + timedelta(hours=3), NOW) == "in 3 h"
    assert words.relative(NOW - timedelta(minutes=2), NOW) == "2 m ago"
    assert words.day(NOW, NOW) == "26 Nov"
    assert words.day(NOW + timedelta(days=60), NOW) == "25 Jan 2027"
    assert words.exact(NOW) == "2026-11-26 12:00:00 UTC"


def test_exact_times_stand_in_the_chosen_zone_and_in_utc_beside_it():
    try:
        words.tell_times_in({words.ZONE_COOKIE: "Asia%2FTokyo"})
        assert words.zone() == "Asia/Tokyo"
        assert words.exact(NOW) == "2026-11-26 21:00:00 JST (2026-11-26 12:00:00 UTC)"
        assert words.clock(NOW) == "21:00 JST"
        assert words.day(NOW + timedelta(hours=6), NOW) == "27 Nov"
        for unknown in ("", "Nowhere/At all", "../../etc/passwd", "/etc/localtime", "Etc/GMT+5", "%00", "a" * 5000):
            words.tell_times_in({words.ZONE_COOKIE: unknown})
            assert (words.zone(), words.exact(NOW)) == ("", "2026-11-26 12:00:00 UTC")
    finally:
        words.tell_times_in({})


def test_names_of_others_show_all_that_is_in_them():
    assert "\u202e" not in pages.shown("a\u202eb\u200bc")
    assert pages.shown("a\u202eb") == "a⟨U+202E⟩b"
    assert pages.broken("<b>.x") == "<bdi>&lt;b&gt;.<wbr>x</bdi>"


@given(st.text(max_size=300))
def test_no_text_becomes_markup_or_turns_the_line(text):
    told = str(pages.broken(text))
    inside = told.removeprefix("<bdi>").removesuffix("</bdi>").replace("<wbr>", "")
    assert not re.search(r"[<>\"']", inside)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u0000]", told)


@given(st.integers(-400, 400), st.integers(0, 800), st.none() | st.integers(-400, 400))
def test_a_life_stays_on_its_axis(begins, lasts, renews):
    axis = around(NOW, 60, 120)
    begin = NOW + timedelta(days=begins)
    drawn = life(axis, begin, begin + timedelta(days=lasts), None if renews is None else NOW + timedelta(days=renews))
    for stretch in (drawn.past, drawn.left, drawn.window):
        if stretch is not None:
            x, width = (float(part.removesuffix("%")) for part in stretch)
            assert 0 <= x <= 100
            assert 0 <= width <= 100.01 - x + 0.01


def test_ticks_and_tints():
    assert [tick.text for tick in day_ticks(around(NOW, 60, 120), 30)] == ["−30 d", "+30 d", "+60 d", "+90 d"]
    assert heat([0, 1, 50, 100]) == [1, 2, 4, 5]
    assert heat([]) == []
    assert heat([0, 0]) == [1, 1]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_sentence_of_a_template_can_be_translated(path):
    source = path.read_text()
    text = "".join(
        value if kind == "data" else " "
        for _line, kind, value in jinja2.Environment().lex(source)
        if kind in {"data", "block_end", "variable_end"}
    )
    bare = re.sub(r"<[^>]*>", " ", re.sub(r'content="[^"]*"', "", text))
    bare = _SAME_EVERYWHERE.sub("", bare)
    assert re.findall(r"[A-Za-z]{3,}", bare) == []
    said = re.findall(r'(?:aria-label|placeholder|title|alt)="([^"{]*[A-Za-z]{2,}[^"{]*)"', text)
    assert said == []


def test_the_catalogue_can_be_extracted_and_the_whole_of_it_is_spoken_in_english():
    found = set()
    for path in TEMPLATES:
        found |= {
            str(row[1]) for row in extract("jinja2", BytesIO(path.read_bytes()), options={"newstyle_gettext": "true"})
        }
    for path in MODULES:
        found |= {str(row[1]) for row in extract("python", BytesIO(path.read_bytes()))}
    assert len(found) > 150
    words.speak("xx-unknown, de;q=0.5")
    assert words.language() == "en"
    assert words.gettext("Sign in") == "Sign in"


def sentences(path: Path) -> set[str]:
    """Texts of a module that read like language and go through no gettext; docstrings and what is raised left out."""
    tree = ast.parse(path.read_text())
    told: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told.add(id(node.value))
        of_gettext = (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_", "ngettext"}
        )
        if of_gettext or isinstance(node, ast.Raise):
            told |= {id(each) for each in ast.walk(node)}
    texts = {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and id(each) not in told}
    return {
        text for text in texts if isinstance(text, str) and re.search(r"[A-Za-z]{2} [A-Za-z]{2}|^[A-Z][a-z]{2,}$", text)
    }


def test_every_sentence_of_a_module_can_be_translated(tmp_path):
    bare = {text for path in MODULES for text in sentences(path)}
    assert bare - _NO_SENTENCES - _OF_ALL_DOORS == set()
    # and it would be found
    (tmp_path / "page.py").write_text(
        'def f():\n    """Doc string here."""\n    return [_("Two words"), "Saved", "no way back"]\n'
    )
    assert sentences(tmp_path / "page.py") == {"Saved", "no way back"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_script_or_style_of_its_own(path):
    source = path.read_text()
    assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|hx-on|<script(?![^>]*\ssrc=)|<style", source)
