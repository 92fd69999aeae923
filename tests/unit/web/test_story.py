"""Each event has words; what people were told stands in the story where it belongs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certctl.core.events import EventType
from certctl.ledger import EventRow
from certctl.web import story
from certctl.web.story import Told, merged

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("kind", EventType)
def test_an_event_is_told_in_words_and_not_by_its_name(kind):
    _kind, shape, text = story._words()[kind]
    assert shape[:2] in {"s-", "i-"}
    assert "_" not in text
    assert text.format(who="olivia") != str(kind)


def line(text: str, minutes: int) -> Told:
    return Told(kind="ok", shape="s-ok", text=text, at=NOW - timedelta(minutes=minutes))


def test_two_stories_become_one_newest_first():
    events, told = [line("issued", 1), line("asked", 5)], [line("told", 3), line("told before", 9)]
    assert [each.text for each in merged(events, told, 3)] == ["issued", "told", "asked"]
    assert merged([], [], 3) == []


def row(kind: str, minutes: int, **details: str) -> EventRow:
    return EventRow(
        tenant_id="t", seq=1, transaction_id=1, id="audit-1", type=kind, subject_type="certificate", subject_id="mc-1",
        actor="olivia", actor_type="user", request_id="", address="", details=details,
        created_at=NOW - timedelta(minutes=minutes),
    )  # fmt: skip


def test_nothing_is_told_of_nothing():
    assert story.story([]) == []


def test_tries_that_failed_alike_are_one_line():
    alike = {"job_id": "job-1", "stage": "verify", "error": "it serves another certificate"}
    rows = [row("job_retry", minutes, **alike) for minutes in range(5)]
    rows += [row("job_retry", 6, **alike | {"error": "no connection"}), row("deployment_applied", 7)]
    lines = story.story(rows)
    assert [line.text for line in lines] == [
        "A step failed 5 times and is tried again",
        "A step failed and is tried again",
        "Installed by olivia",
    ]
    assert lines[0].at == NOW
