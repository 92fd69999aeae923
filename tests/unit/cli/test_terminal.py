from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certctl.cli import connection, tables
from certctl.cli.exits import StageFailed, TimedOut, UsageFault, exit_code, sentence
from certctl.cli.finding import _SHORTENED
from certctl.cli.records import KINDS, body_of, values_of
from certctl.client import Unreachable
from certctl.core import errors
from certctl.core.errors import Violation


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    for name in ("CERTCTL_SERVER_URL", "CERTCTL_API_KEY", "CERTCTL_SERVER_CA_BUNDLE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StageFailed("x"), 1),
        (errors.TrustError("x"), 1),
        (errors.OutcomeUnknown("x"), 1),
        (UsageFault("x"), 2),
        (errors.Misconfigured("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.NotAllowed("x"), 4),
        (errors.NotAuthenticated("x"), 4),
        (errors.Conflict("x"), 4),
        (errors.Malformed("x"), 4),
        (Unreachable("x"), 5),
        (errors.Temporary("x"), 5),
        (TimedOut("x"), 6),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code
    assert sentence(error).startswith("x")


def test_every_violation_is_a_line():
    told = sentence(errors.Malformed("all", violations=(Violation("a", "first"), Violation("b", "second"))))
    assert told.splitlines()[1:] == ["  - first", "  - second"]


def test_a_profile_is_saved_for_its_user_alone():
    path = connection.save_profile(connection.Profile(server_url="https://a", api_key="k"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert connection.load_profile().api_key == "k"
    path.chmod(0o644)
    with pytest.raises(UsageFault, match="chmod 600"):
        connection.load_profile()


def test_the_environment_wins(monkeypatch):
    connection.save_profile(connection.Profile(server_url="https://a", api_key="k"))
    monkeypatch.setenv("CERTCTL_SERVER_URL", "https://b")
    assert connection.load_profile() == connection.Profile(server_url="https://b", api_key="k")


def test_nobody_is_signed_in():
    with pytest.raises(UsageFault, match="certctl login"):
        connection.load_profile()


def test_a_broken_profile_is_told():
    connection.profile_path().parent.mkdir()
    connection.profile_path().touch(mode=0o600)
    connection.profile_path().write_text("{")
    with pytest.raises(UsageFault, match="sign in again"):
        connection.load_profile()


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(days=89, hours=5), "in 89 days"),
        (timedelta(hours=-3), "3 hours ago"),
        (timedelta(seconds=-90), "90 seconds ago"),
        (timedelta(seconds=1), "in 1 second"),
        (timedelta(milliseconds=20), "now"),
        (timedelta(hours=36), "in 36 hours"),
    ],
)
def test_relative_times(distance, words):
    assert tables.relative(distance) == words


def test_a_pipe_gets_whole_plain_text(capsys):
    thing_id = "job-0190f5c2-aaaa-7bbb-8ccc-ddddeeeeffff"
    assert tables.short(thing_id) == thing_id
    assert tables.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
    tables.print_table(["A", "B"], [["x", tables.status("Active")], ["longer", ""]])
    assert capsys.readouterr().out == "A       B\nx       Active\nlonger\n"
    tables.print_table(["A"], [])
    assert capsys.readouterr().out == ""


def test_nothing_from_a_server_steers_the_terminal():
    assert "\x1b" not in tables.safe("\x1b[31mred\r\n")


def test_widths_do_not_count_colours():
    assert tables._width("\x1b[32mActive\x1b[0m") == 6


def test_short_ids_are_understood():
    match = _SHORTENED.fullmatch("job\u202621e0f99c")
    assert match is not None
    assert (match["prefix"], match["tail"]) == ("job", "21e0f99c")
    assert _SHORTENED.fullmatch("21e0f99c")
    assert not _SHORTENED.fullmatch("shop.example")


def test_settings_become_a_body():
    values = values_of(["type=nginx", "config.cert_path=/x", "config.sni=7", "enabled=false"], None)
    assert values == {"type": "nginx", "config": {"cert_path": "/x", "sni": 7}, "enabled": False}
    assert body_of(KINDS["targets"], values).config == {"cert_path": "/x", "sni": 7}


@pytest.mark.parametrize("settings", [["x"], ["=1"], ["a=1", "a.b=2"]])
def test_settings_that_are_none(settings):
    with pytest.raises(UsageFault):
        values_of(settings, None)


def test_a_field_nobody_knows():
    with pytest.raises(UsageFault, match="did you mean email"):
        body_of(KINDS["owners"], {"emial": "x"})
    with pytest.raises(UsageFault):
        body_of(KINDS["teams"], {"name": 3})
