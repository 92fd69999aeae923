"""Keys on this host: one a job, never overwritten, never lost while in use."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.agent.keystore import DeployedKey, KeyStore
from certctl.core.errors import Malformed, Misconfigured

NOW = datetime.now(UTC)


def deployed(job_id: str, target_id: str = "t-1") -> DeployedKey:
    return DeployedKey(job_id=job_id, target_id=target_id, version_id="v", fingerprint_sha256="ab", at=NOW)


def age(store: KeyStore, job_id: str, days: int) -> None:
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(store.path_of("mc-1", job_id), (moment, moment))


def test_stage_finds_the_same_key_again(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    assert store.stage("mc-1", "job-1", lambda: b"one") == b"one"
    assert store.stage("mc-1", "job-1", lambda: b"two") == b"one"
    assert KeyStore(tmp_path / "keys").read("mc-1", "job-1") == b"one"
    path = tmp_path / "keys" / "mc-1" / "job-1.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["job-1.key"]


def test_a_key_that_appears_meanwhile_wins(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)

    def make() -> bytes:
        store.stage("mc-1", "job-1", lambda: b"first")
        return b"second"

    assert store.stage("mc-1", "job-1", make) == b"first"


@pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a/b", "a\x00b", "x" * 129, "é"])
def test_ids_are_never_paths(tmp_path: Path, bad: str) -> None:
    store = KeyStore(tmp_path)
    for certificate_id, job_id in ((bad, "job-1"), ("mc-1", bad)):
        with pytest.raises(Malformed):
            store.stage(certificate_id, job_id, lambda: b"key")
    assert list(tmp_path.iterdir()) == []


@given(st.text())
def test_paths_stay_beneath_the_key_folder(text: str) -> None:
    store = KeyStore.__new__(KeyStore)
    store._key_dir = Path("/keys")
    try:
        path = store.path_of(text, text)
    except Malformed:
        return
    assert path.parts[:2] == ("/", "keys")
    assert len(path.parts) == 4
    assert ".." not in path.parts


def test_links_are_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "job-1.key").write_text("theirs")
    (tmp_path / "keys" / "mc-1").symlink_to(elsewhere)
    with pytest.raises(Misconfigured):
        store.read("mc-1", "job-1")
    store.stage("mc-2", "job-1", lambda: b"ours")
    store.path_of("mc-2", "job-2").symlink_to(elsewhere / "job-1.key")
    with pytest.raises(Misconfigured):
        store.read("mc-2", "job-2")
    with pytest.raises(Misconfigured):
        KeyStore(tmp_path / "keys" / "mc-1")


def test_prune_keeps_newest_versions_and_what_is_in_use(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    for number in range(1, 7):
        store.stage("mc-1", f"job-{number}", lambda: b"key")
    store.note_deployed("mc-1", deployed("job-1", "t-old"))  # another target still serves the oldest
    for number in range(2, 7):
        store.note_deployed("mc-1", deployed(f"job-{number}"))
    removed = store.prune(NOW)
    assert sorted(removed) == [("mc-1", "job-2"), ("mc-1", "job-3")]
    assert store.find("mc-1", "job-1") == b"key"
    assert store.find("mc-1", "job-6") == b"key"
    store.note_deployed("mc-1", deployed("job-4"))  # rolled back
    assert [line.job_id for line in store.deployed("mc-1")][:2] == ["job-4", "job-6"]


def test_prune_drops_stale_staged_keys_only(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    for job_id, days in (("job-new", 29), ("job-old", 31), ("job-busy", 31), ("job-used", 400)):
        store.stage("mc-1", job_id, lambda: b"key")
        age(store, job_id, days)
    store.note_deployed("mc-1", deployed("job-used"))
    assert store.prune(NOW, frozenset({("mc-1", "job-busy")})) == (("mc-1", "job-old"),)


def test_corrupt_index_stops_pruning(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.stage("mc-1", "job-1", lambda: b"key")
    age(store, "job-1", 400)
    (tmp_path / "mc-1" / "deployed.json").write_text("{")
    assert store.prune(NOW) == ()
    assert store.prune(NOW) == ()
    assert store.find("mc-1", "job-1") == b"key"
    assert len(list((tmp_path / "mc-1").glob("deployed.json.corrupt-*"))) == 1


def test_foreign_things_in_the_key_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost and found").mkdir()
    (tmp_path / "mc-1.key").write_text("an old agent's key")
    assert KeyStore(tmp_path).prune(NOW) == ()
    assert (tmp_path / "mc-1.key").exists()


def test_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="renew the certificate"):
        KeyStore(tmp_path).read("mc-1", "job-1")
