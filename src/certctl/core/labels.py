"""Texts that people read as names: in one form (NFC), and showing all that is in them.

What is invisible or turns the direction of writing (zero-width characters, overrides, fillers) could make two names
look alike, or one look like another: it is refused, never dropped silently (Unicode TR 36, UAX 9).
"""

from __future__ import annotations

import unicodedata

from certctl.core.errors import Malformed, Violation

LONGEST = 255
# letters and symbols that show nothing, which no category tells
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def check_label(text: str, field: str = "name", *, may_be_empty: bool = False) -> str:
    """A name in NFC without spaces around it: 1 to 255 characters, each of which can be seen. Raises Malformed."""
    label = unicodedata.normalize("NFC", text).strip()
    if not (label or may_be_empty) or len(label) > LONGEST or not label.isprintable() or _BLANKS & set(label):
        message = f"{field} must be 1 to {LONGEST} printable characters"
        raise Malformed(message, violations=(Violation("name_has_wrong_form", message, field),))
    return label


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags with names and values in one form; a value may be empty. Raises Malformed."""
    return {check_label(name, "tags"): check_label(value, "tags", may_be_empty=True) for name, value in tags.items()}
