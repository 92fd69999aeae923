"""Statuses stand in the statement as words of ours; whatever else is refused before it is sent."""

from __future__ import annotations

import pytest

from certctl.core.status import JobStatus
from certctl.store.schema import jobs
from certctl.store.statuses import is_one_of


def test_the_words_stand_in_the_statement_and_nothing_is_bound():
    said = is_one_of(jobs.c.status, {JobStatus.RUNNING, JobStatus.PENDING}).compile()
    assert str(said) == "jobs.status IN ('Pending', 'Running')"
    assert said.params == {}
    assert is_one_of(jobs.c.status, [JobStatus.PENDING, JobStatus.RUNNING]) is is_one_of(
        jobs.c.status, (JobStatus.RUNNING, JobStatus.PENDING)
    )


@pytest.mark.parametrize("text", ["", "x' OR 'a'='a", "a b", "x" * 33, "é"])
def test_what_is_no_word_is_no_status(text):
    with pytest.raises(ValueError, match="no statuses"):
        is_one_of(jobs.c.status, [text])
