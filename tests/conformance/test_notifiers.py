"""What every channel must keep, run against each of them; and what only mail and webhook promise."""

from __future__ import annotations

import email
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from email.policy import default as modern

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.base.notifier import Message, check_address, incident_key, one_line
from certctl.connectors.dial import DialPolicy
from certctl.connectors.notifiers.email import EmailConfig, EmailNotifier
from certctl.connectors.registry import (
    NOTIFIERS,
    check_notifier_config,
    notifier_config_schema,
    notifier_secrets,
    open_notifier,
)
from certctl.core.errors import ConnectorError, Malformed, Misconfigured, Rejected, Temporary
from conformance.notifiers import FACTORIES, SECRETS
from peers import receivers

KINDS = list(FACTORIES)
EVIL = "site\r\nBcc: victim@other.example\r\n\r\n<!channel> <b>&[x](https://evil.example)"


def message(**more: object) -> Message:
    told = Message(
        id="notif-1",
        type="ExpirationWarning",
        severity="critical",
        subject="shop.example expires in 7 days",
        text="shop.example (mc-1) expires on 2026-12-03.\nNobody renews it.",
        created_at=datetime(2026, 11, 26, 12, tzinfo=UTC),
        certificate_id="mc-1",
        incident="expiry/certver-1",
    )
    return msgspec.structs.replace(told, **more)


def secrets_of(kind: str) -> list[str]:
    return [part for value in SECRETS[kind].values() for part in (value, "s3cret")]


def test_every_kind_is_here():
    assert KINDS == [entry.kind for entry in NOTIFIERS] == list(SECRETS)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_told_arrives(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        assert await notifier.send(message()) == ""
        await notifier.close()
        (text,) = channel.texts()
        assert "shop.example expires in 7 days" in text
        assert "Nobody renews it." in text


@pytest.mark.parametrize("kind", KINDS)
async def test_sent_twice_it_can_be_told_that_it_is_one(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        await notifier.send(message())
        await notifier.send(message(id="notif-1"))
        await notifier.send(message(id="notif-2", subject="shop.example expires in 1 day"))
        await notifier.close()
        if channel.folds:
            assert list(channel.incidents) == ["expiry/certver-1"]
        elif kind == "Email":
            ids = [letter["Message-ID"] for letter in channel.other.letters]
            assert ids[0] == ids[1] != ids[2]
        elif kind == "Webhook":
            ids = [got.headers["x-certctl-notification-id"] for got in channel.other.got]
            assert ids == ["notif-1", "notif-1", "notif-2"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_resolved_closes_what_was_triggered(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        await notifier.send(message())
        await notifier.send(message(id="notif-2", resolves=True, subject="shop.example was renewed"))
        # what nobody knows is closed without complaint: it may have been closed by hand
        await notifier.send(message(id="notif-3", resolves=True, incident="expiry/another"))
        await notifier.close()
        if channel.folds:
            assert channel.incidents["expiry/certver-1"] in {"resolved", "closed"}
        else:
            assert "was renewed" in channel.texts()[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mood", "error"), [("down", Temporary), ("busy", Temporary), ("no", Rejected), ("who", Misconfigured)]
)
async def test_what_the_other_side_says_is_the_error_that_fits(kind, mood, error):
    if kind == "Email" and mood == "who":
        async with FACTORIES[kind]() as channel:
            with pytest.raises(Misconfigured, match="user name and password") as caught:
                await channel.open(password="another").send(message())
            assert "another" not in caught.value.message
        return
    async with FACTORIES[kind]() as channel:
        channel.says(mood)
        notifier = channel.open()
        with pytest.raises(error) as caught:
            await notifier.send(message())
        await notifier.close()
        if mood == "busy" and kind != "Email":
            assert caught.value.retry_after == timedelta(seconds=90)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_error_and_no_repr_tells_a_secret(kind):
    async with FACTORIES[kind]() as channel:
        found = [repr(channel.open().__dict__)]
        moods = ["down", "no"] if kind == "Email" else ["down", "busy", "no", "who", "elsewhere", "huge"]
        for mood in moods:
            channel.says(mood)
            notifier = channel.open()
            with pytest.raises(ConnectorError) as caught:
                await notifier.send(message())
            await notifier.close()
            found.append(f"{caught.value.message} {caught.value.detail} {caught.value!r} {caught.value.__cause__!r}")
    # nobody listens any more
    notifier = channel.open()
    with pytest.raises(Temporary) as caught:
        await notifier.send(message())
    await notifier.close()
    found.append(f"{caught.value.message} {caught.value!r}")
    for text in found:
        for secret in secrets_of(kind):
            assert secret not in text, text


@pytest.mark.parametrize("kind", KINDS)
async def test_addresses_of_the_inside_are_not_dialled(kind):
    async with FACTORIES[kind]() as channel:
        closed = DialPolicy(purpose="notify", setting="CERTCTL_NOTIFICATION_ALLOW")
        notifier = channel.open(closed)
        with pytest.raises(Misconfigured, match="loopback address.*CERTCTL_NOTIFICATION_ALLOW"):
            await notifier.send(message())
        await notifier.close()
        assert channel.texts() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
async def test_a_name_that_turns_to_the_inside_is_looked_up_once_and_refused(kind, inside):
    async with FACTORIES[kind]() as channel:
        answers = iter([[inside], ["203.0.113.9"]])
        asked = []

        async def resolver(host: str, _port: int) -> list[str]:
            asked.append(host)
            return next(answers)

        field = "host" if kind == "Email" else ("webhook_url" if kind in {"Slack", "Teams"} else "url")
        place = "rebinding.example" if kind == "Email" else f"https://rebinding.example:{_port_of(channel)}/x"
        notifier = channel.open(DialPolicy(purpose="notify"), resolver, **{field: place})
        with pytest.raises(Misconfigured, match="is not dialled"):
            await notifier.send(message())
        await notifier.close()
        assert asked == ["rebinding.example"]
        assert channel.texts() == []


def _port_of(channel) -> int:
    return int(channel.other.url.rpartition(":")[2])


@pytest.mark.parametrize("kind", KINDS)
async def test_names_with_lines_and_markup_change_nothing_but_themselves(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        await notifier.send(message(subject=EVIL, text=EVIL, certificate_id=EVIL))
        await notifier.close()
        if kind == "Email":
            (letter,) = channel.other.letters
            assert letter["Bcc"] is None
            assert letter["Subject"].strip().startswith("site Bcc: victim@other.example")
            assert channel.other.envelopes == [("certctl@corp.example", ("ops@corp.example",))]
            return
        (got,) = channel.other.got
        assert "bcc" not in got.headers
        if kind == "Slack":
            assert "<!channel>" not in got.json["text"] and "&lt;!channel&gt;" in got.json["text"]
        if kind == "Teams":
            blocks = got.json["attachments"][0]["content"]["body"]
            assert {block["type"] for block in blocks} == {"RichTextBlock"}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_longest_message_is_cut_to_what_the_other_side_takes(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        long = message(subject="s" * 5000, text="t" * 100_000, incident="i" * 2000, certificate_id="c" * 128)
        assert await notifier.send(long) == ""
        await notifier.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_one_notifier_sends_many(kind):
    async with FACTORIES[kind]() as channel:
        notifier = channel.open()
        for number in range(5):
            await notifier.send(message(id=f"notif-{number}"))
        await notifier.close()
        assert len(channel.texts()) == 5


@pytest.mark.parametrize("kind", KINDS)
async def test_configuration_is_described_and_read_strictly(kind):
    schema = notifier_config_schema(kind)
    (fields,) = (each["properties"] for each in schema["$defs"].values())
    for name in notifier_secrets(kind):
        assert fields[name]["writeOnly"] is True
    assert set(SECRETS[kind]) == set(notifier_secrets(kind))
    async with FACTORIES[kind]() as channel:
        check_notifier_config(kind, channel.config)
        with pytest.raises(Malformed, match="is not known"):
            check_notifier_config(kind, channel.config | {"urll": "x"})
        for name in notifier_secrets(kind):
            for wrong in (7, ["s3cret"], {"s3cret": 1}, None):
                with pytest.raises(Malformed) as caught:
                    check_notifier_config(kind, channel.config | {name: wrong})
                assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Email", {"host": "mail.example", "from_address": "a@b.example\r\nBcc: c@d.example"}),
        (
            "Email",
            {"host": "mail.example", "from_address": "a@b.example", "recipients": ["x@y.example\nRCPT TO:<z@z>"]},
        ),
        ("Email", {"host": "mail.example\r\nQUIT", "from_address": "a@b.example"}),
        ("Email", {"host": "mail.example", "from_address": "not an address"}),
        ("Email", {"host": "mail.example", "from_address": "a@b.example", "port": 70000}),
        (
            "Email",
            {"host": "m.example", "from_address": "a@b.example", "username": "u", "password": "p", "tls": "none"},
        ),
        ("Email", {"host": "m.example", "from_address": "a@b.example", "username": "u"}),
        ("Webhook", {"url": "file:///etc/passwd"}),
        ("Webhook", {"url": "https://user:word@host.example/"}),
        ("Webhook", {"url": "https://host.example/\r\nX: y"}),
        ("Webhook", {"url": "https://"}),
        ("Webhook", {"url": "http://host.example/", "bearer_token": "t"}),
        ("Webhook", {"url": "https://host.example/", "bearer_token": "t\r\nX-Evil: 1"}),
        ("Slack", {"webhook_url": "http://hooks.slack.com/services/x"}),
        ("Teams", {"webhook_url": "gopher://x"}),
        ("PagerDuty", {"routing_key": ""}),
        ("OpsGenie", {"api_key": "k\r\nX-Evil: 1"}),
        ("OpsGenie", {"api_key": "k", "priority": "P9"}),
    ],
)
def test_what_cannot_work_or_would_inject_is_refused(kind, config):
    with pytest.raises(Malformed):
        check_notifier_config(kind, config)


async def test_a_webhook_can_be_verified_and_a_replay_told():
    async with FACTORIES["Webhook"]() as channel:
        notifier = channel.open()
        await notifier.send(message())
        await notifier.close()
        (got,) = channel.other.got
        key = SECRETS["Webhook"]["secret"].encode()
        stamped = got.headers["x-certctl-timestamp"].encode() + b"." + got.body
        assert got.headers["x-certctl-signature"] == "v1=" + hmac.new(key, stamped, hashlib.sha256).hexdigest()
        assert got.headers["x-signature"] == "sha256=" + hmac.new(key, got.body, hashlib.sha256).hexdigest()
        assert abs(int(got.headers["x-certctl-timestamp"]) - datetime.now(UTC).timestamp()) < 300
        assert got.headers["authorization"] == "Bearer s3cret-token"
        told = got.json
        assert (told["type"], told["event_type"], told["event_id"]) == ("event", "notification", "notif-1")
        assert (told["severity"], told["action"], told["certificate_id"]) == ("critical", "trigger", "mc-1")


@pytest.mark.parametrize("tls", ["starttls", "implicit", "none"])
async def test_mail_goes_by_starttls_by_tls_and_in_the_clear(tls):
    async with receivers.mailbox(tls=tls) as box:
        notifier = open_notifier("Email", box.config(tls=tls), DialPolicy(purpose="notify", allow_loopback=True))
        assert await notifier.send(message(recipients=("o@corp.example",), html="<p>shop</p>")) == ""
        (letter,) = box.letters
        assert letter["Auto-Submitted"] == "auto-generated"
        assert letter["To"] == "o@corp.example"
        assert [part.get_content_type() for part in letter.walk()] == [
            "multipart/alternative",
            "text/plain",
            "text/html",
        ]


async def test_mail_is_not_sent_where_tls_cannot_be_trusted_or_had():
    loopback = DialPolicy(purpose="notify", allow_loopback=True)
    async with receivers.mailbox() as box:
        with pytest.raises(Misconfigured, match="is not trusted"):
            await open_notifier("Email", box.config(ca_pem=""), loopback).send(message())
        assert box.letters == []
    async with receivers.mailbox(tls="none") as box:
        with pytest.raises(Misconfigured, match="offers no STARTTLS"):
            await open_notifier("Email", box.config(tls="starttls"), loopback).send(message())
        assert box.letters == []


async def test_recipients_that_are_refused_are_named_and_the_others_get_it():
    async with receivers.mailbox() as box:
        config = box.config(recipients=["ops@corp.example", "gone@corp.example"])
        notifier = open_notifier("Email", config, DialPolicy(purpose="notify", allow_loopback=True))
        box.refuses["gone@corp.example"] = "550 5.1.1 unknown"
        assert (await notifier.send(message())).endswith("gone@corp.example")
        assert box.envelopes == [("certctl@corp.example", ("ops@corp.example",))]
        box.refuses["ops@corp.example"] = "550 5.1.1 unknown"
        with pytest.raises(Rejected, match="550"):
            await notifier.send(message())
        box.refuses["ops@corp.example"] = "450 4.2.0 greylisted"
        with pytest.raises(Temporary):
            await notifier.send(message())


async def test_nobody_to_write_to_is_said():
    config = {"host": "127.0.0.1", "from_address": "a@b.example"}
    with pytest.raises(Misconfigured, match="nobody to write to"):
        await open_notifier("Email", config, DialPolicy(purpose="notify")).send(message())


_NOTIFIER = EmailNotifier(EmailConfig(host="mail.example", from_address="a@b.example"), DialPolicy(purpose="notify"))
_HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Certctl-Notification-Id"]


@given(subject=st.text(max_size=300), text=st.text(max_size=300))
def test_no_text_becomes_a_header(subject, text):
    letter = _NOTIFIER._letter(message(subject=subject, text=text), ("o@corp.example",)).as_bytes()
    read = email.message_from_bytes(letter, policy=modern)
    assert [name for name in read.keys() if not name.lower().startswith(("content-", "mime-"))] == _HEADERS  # noqa: SIM118
    assert read["To"] == "o@corp.example"


@given(st.text(max_size=500), st.integers(2, 60))
def test_one_line_is_one_line(text, most):
    assert len(one_line(text, most)) <= most
    assert one_line(text, most).isprintable()


@given(st.text(max_size=80))
def test_only_addresses_are_addresses(text):
    try:
        check_address(text, "url", ("https",))
    except ValueError as error:
        assert text not in str(error) or len(text) < 40
    else:
        assert text.lower().startswith("https://") and text.isprintable() and " " not in text


def test_keys_that_are_too_long_stay_distinct():
    one, other = (incident_key(message(incident="x" * 300 + end), 255) for end in "ab")
    assert one != other and len(one) == 64
