"""Settings, identity, back-off, the steps in hand, durable files."""

from __future__ import annotations

import random
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.agent.backoff import Backoff
from certctl.agent.durable import FolderLock, private_folder, read_private, remove_leftovers, write_atomic, write_once
from certctl.agent.hand import Hand
from certctl.agent.identity import Identity, read_identity, write_identity
from certctl.agent.settings import check_server_url, load_settings
from certctl.core.errors import Conflict, Misconfigured
from certctl.core.secret import Secret
from certctl.wire.agent import LeaseRef, WorkItem


def test_settings_flags_win_over_environment() -> None:
    environ = {"CERTCTL_SERVER_URL": "https://a.example:8443/", "CERTCTL_AGENT_NAME": "env", "CERTCTL_API_KEY": "k3y"}
    settings = load_settings(environ, {"name": "flag", "server_url": None})
    assert (settings.server_url, settings.name) == ("https://a.example:8443", "flag")
    assert settings.api_key == Secret("k3y")
    assert "k3y" not in repr(settings)
    assert settings.state_dir == Path("/var/lib/certctl/agent")


@pytest.mark.parametrize(
    "url", ["http://a.example", "a.example", "https://", "https://u:p@a.example", "https://a:99999", "https://a/?x=1"]
)
def test_only_https_servers(url: str) -> None:
    with pytest.raises(Misconfigured, match="CERTCTL_SERVER_URL"):
        check_server_url(url)


def test_skipping_verification_is_refused_and_unknown_wishes_are_told() -> None:
    with pytest.raises(Misconfigured, match="always verifies"):
        load_settings({"CERTCTL_SERVER_TLS_INSECURE_SKIP_VERIFY": "true"})
    with pytest.raises(Misconfigured, match="absolute"):
        load_settings({"CERTCTL_KEY_DIR": "keys"})
    assert load_settings({"CERTCTL_DISCOVERY_DIRS": "/etc/ssl"}).ignored[0].startswith("CERTCTL_DISCOVERY_DIRS")


def test_identity_round_trip(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    identity = Identity(
        agent_id="agent-1",
        name="web1",
        credential=Secret("s3cret"),
        server_url="https://a.example",
        ca_bundle_pem="pem",
        heartbeat_seconds=7,
        enrolled_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    write_identity(tmp_path, identity)
    assert read_identity(tmp_path) == identity
    assert "s3cret" not in repr(identity)
    assert stat.S_IMODE((tmp_path / "agent.json").stat().st_mode) == 0o600


@given(st.binary(max_size=200))
def test_no_text_breaks_the_identity_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "identity"
    folder.mkdir(exist_ok=True)
    (folder / "agent.json").write_bytes(data)
    with pytest.raises(Misconfigured):
        read_identity(folder)


def test_backoff_doubles_to_its_bound_and_starts_over() -> None:
    backoff = Backoff()
    waits = [backoff.failed() for _ in range(20)]
    for number, wait in enumerate(waits):
        ceiling = min(60.0, 0.2 * 2**number)
        assert ceiling / 2 <= wait <= ceiling
    assert 60.0 <= backoff.failed(timedelta(days=1)) <= 90.0
    backoff.succeeded()
    assert backoff.failed() <= 0.2
    # whom a server asked to wait, at one moment, does not come back at one moment
    asked = [backoff.failed(timedelta(seconds=7)) for _ in range(4)]
    assert all(7 <= wait <= 10.5 for wait in asked)
    assert len(set(asked)) > 1


@given(st.floats(min_value=0, max_value=1e6))
def test_only_the_first_failure_without_an_answer_is_spread(seconds: float) -> None:
    backoff, spread = Backoff(), timedelta(seconds=seconds)
    most = min(seconds, 120.0)
    assert 0.1 <= backoff.failed(spread=spread) <= 0.2 + most
    assert backoff.failed(spread=spread) <= 0.4
    backoff.succeeded()
    # whoever was answered knows when to come back
    assert backoff.failed(timedelta(seconds=1), spread) <= 1.5


def test_a_fleet_comes_back_spread_over_all_of_the_time() -> None:
    random.seed(7)
    waits = [Backoff().failed(spread=timedelta(seconds=60)) for _ in range(600)]
    per_part = [sum(1 for wait in waits if part <= wait / 10 < part + 1) for part in range(6)]
    assert min(per_part) > 60  # of 100 on average


def item(step_id: str, fence: int, lease_seconds: float = 30) -> WorkItem:
    return WorkItem(id="job", type="x", certificate_id="mc", step_id=step_id, fence=fence, lease_seconds=lease_seconds)


def test_hand_follows_fences() -> None:
    hand = Hand()
    held = hand.take(item("s", 1))
    assert held is not None
    assert hand.take(item("s", 1)) is None
    assert hand.lose([LeaseRef("s", 1), LeaseRef("other", 1)]) == [held]
    assert hand.leases() == []
    assert hand.take(item("s", 2)) is None
    assert (held.fence, held.lost) == (2, False)
    assert hand.lose([LeaseRef("s", 1)]) == [], "an old lease is lost, the new one is not"
    assert hand.leases() == [LeaseRef("s", 2)]
    hand.release(held)
    assert len(hand) == 0


def test_heartbeats_are_quicker_than_leases() -> None:
    hand = Hand()
    assert hand.beat_seconds(30) == 30
    hand.take(item("s", 1, lease_seconds=6))
    assert hand.beat_seconds(30) == 2
    hand.take(item("t", 1, lease_seconds=0.01))
    assert hand.beat_seconds(30) == 0.5


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    write_atomic(folder / "x", b"1", "test")
    write_atomic(folder / "x", b"2", "test")
    assert write_once(folder / "x", b"3", "test") is False
    assert read_private(folder / "x") == b"2"
    (folder / ".tmp-left").write_bytes(b"half")
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["x"]
    (folder / "x").chmod(0o644)
    read_private(folder / "x")
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o600
    with pytest.raises(Misconfigured):
        read_private(folder / "x", most_bytes=0)
    folder.chmod(0o777)
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_one_process_a_folder(tmp_path: Path) -> None:
    assert not FolderLock.is_held(tmp_path)
    with FolderLock(tmp_path):
        assert FolderLock.is_held(tmp_path)
        with pytest.raises(Conflict, match="another agent"), FolderLock(tmp_path):
            pass
    with FolderLock(tmp_path):
        pass
