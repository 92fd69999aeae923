"""Syslog messages and frames: what is written is read again; nothing that is sent breaks out of its frame or field."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.wire.syslog import Message, frame, read_frames, read_message

AT = datetime(2026, 11, 26, 10, 0, 0, 123456, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_a_message_as_the_rfc_writes_it():
    message = Message(at=AT, hostname="ca-1.example", message_id="config_updated", text='{"id":"audit-1"}')
    said = b'<110>1 2026-11-26T10:00:00.123456Z ca-1.example certctl - config_updated - {"id":"audit-1"}'
    assert message.as_bytes() == said
    assert frame(said) == b"91 " + said
    assert read_frames(frame(said) + b"7 half") == ([said], b"7 half")


@given(TEXT, TEXT, TEXT)
def test_what_is_written_is_read_again(hostname, message_id, text):
    message = Message(at=AT, hostname=hostname, message_id=message_id, text=text)
    (only,), rest = read_frames(frame(message.as_bytes()))
    read = read_message(only)
    assert (read.text, read.at, rest) == (text, AT, b"")
    # what is no printable ASCII is left out, so that no field can end its line or begin another field
    assert read.hostname == ("".join(each for each in hostname if "!" <= each <= "~")[:255] or "-")
    assert read.message_id == ("".join(each for each in message_id if "!" <= each <= "~")[:32] or "-")
    assert only.split(b" - ", 1)[0].count(b" ") <= 6


@given(st.lists(st.binary(max_size=60).filter(bool)), st.integers(min_value=0, max_value=500))
def test_a_stream_cut_anywhere_gives_whole_messages_and_the_rest(messages, cut):
    stream = b"".join(map(frame, messages))
    head, tail = stream[:cut], stream[cut:]
    first, rest = read_frames(head)
    second, end = read_frames(rest + tail)
    assert (first + second, end) == (messages, b"")


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_wait(stream):
    try:
        found, rest = read_frames(stream)
        assert b"".join(map(frame, found)) + rest == stream
        for each in found:
            read_message(each)
    except Malformed:
        pass


@pytest.mark.parametrize("stream", [b"0 x", b"01 x", b"-1 x", b"x", b"99999999999 x", b"9999999999 x"])
def test_no_length_no_frame(stream):
    with pytest.raises(Malformed):
        read_frames(stream)


@pytest.mark.parametrize(
    "message", [b"", b"<192>1 2026-11-26T10:00:00.1Z h a - m - x", b"<1>2 - - - - - -", b"<1>1 2026 h a - m - x"]
)
def test_what_is_no_message_is_refused(message):
    with pytest.raises(Malformed):
        read_message(message)
