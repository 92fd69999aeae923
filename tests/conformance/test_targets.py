"""What every target must do, each against its real server. A new target adds one line to `peers.servers.PEERS`."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import os
import smtplib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from certctl.connectors.base.target import Material, Plan, Probes, Receipt, Recovers
from certctl.connectors.host.group import Group
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary, TrustError
from peers.nginx import make_pair
from peers.nginx_story import deploy, material
from peers.servers import PEERS, Peer
from peers.zygote import Zygote

# Before anything is in place, half in place, all in place, and seen.
DEATHS = ("swap.staged", "swap.renamed:0", "swap.journal.swapped", "swap.seen")

pytestmark = pytest.mark.real


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    yield from started(request.param)


@pytest.fixture(params=[name for name, kind in PEERS.items() if kind.checker_compares])
def judging_peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Only those whose own checker compares key and certificate."""
    yield from started(request.param)


def started(name: str) -> Iterator[Peer]:
    kind = PEERS[name]
    if not Path(kind.program).exists():
        pytest.skip(f"no {kind.program} here; `make peers` installs it")
    if kind.needs_root and os.geteuid() != 0:
        pytest.skip(f"{name} starts only as root: it gives its processes to users of their own")
    peer = kind()
    try:
        peer.start()
        yield peer
    finally:
        peer.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("peers.nginx_story:run") as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path) -> Material:
    return material(tmp_path / "keys", *make_pair(), chain_pem=make_pair("Issuing CA")[0])


class Before:
    """How a peer was; `same` asserts that nothing at all has changed since."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.served = peer.served()
        self._files = peer.files()

    def same(self) -> None:
        assert self._peer.served() == self.served
        assert self._peer.files() == self._files
        assert not self._peer.leftovers()


async def test_plan_touches_nothing_and_tells_no_secret(peer: Peer, pair: Material) -> None:
    before, target = Before(peer), peer.open()
    plan = await target.plan(pair, "dep-1")
    before.same()
    assert plan.plan_id == "dep-1"
    assert plan.fingerprint_sha256 == pair.fingerprint_sha256
    assert plan.actions
    assert all(file.changes for file in plan.files)
    assert pair.fingerprint_sha256[:16] in plan.summary[-1]
    assert "PRIVATE" not in msgspec.json.encode(plan).decode()
    assert pair.key_path is not None
    assert pair.key_path.read_text().splitlines()[1] not in repr(plan)
    assert isinstance(target, Probes)
    assert await target.served() == peer.served()
    assert isinstance(target, Recovers)
    assert await target.recover() == ()


async def test_apply_is_seen_from_outside_and_done_once(peer: Peer, pair: Material, tmp_path: Path) -> None:
    target, before = peer.open(), peer.served()
    plan = await target.plan(pair, "dep-1")
    with pytest.raises(ConnectorError, match="plan again"):
        await target.apply(plan, material(tmp_path / "keys", *make_pair()))
    assert peer.served() == before
    check_receipt(await target.apply(plan, pair), plan, pair, before)
    assert peer.served() == pair.fingerprint_sha256 == peer.on_disk()
    assert peer.key_path.stat().st_mode & 0o777 == 0o600
    assert not peer.leftovers()
    files = peer.files()
    again = await target.apply(plan, pair)
    assert again.skipped_as_identical
    assert again.actions_run == again.files_written == ()
    assert peer.files() == files
    assert not any(file.changes for file in (await target.plan(pair, "dep-2")).files)


def check_receipt(receipt: Receipt, plan: Plan, pair: Material, before: str) -> None:
    assert receipt.served_after == receipt.fingerprint_sha256 == pair.fingerprint_sha256
    assert receipt.served_before == before
    assert receipt.seen_by == "handshake"
    assert receipt.plan_id == plan.plan_id
    assert receipt.actions_run == plan.actions
    assert receipt.files_written == tuple(file.path for file in plan.files)
    assert not receipt.skipped_as_identical
    assert receipt.applied_at.tzinfo is not None


async def test_what_must_not_be_deployed_is_refused_and_nothing_changes(
    peer: Peer, pair: Material, tmp_path: Path
) -> None:
    before = Before(peer)
    replace = msgspec.structs.replace
    for wrong in (
        replace(pair, key_path=None),
        replace(pair, key_path=tmp_path / "none.key"),
        replace(pair, leaf_pem="no certificate"),
        replace(pair, chain_pem="no certificate"),
        replace(pair, leaf_pem=make_pair()[0], fingerprint_sha256=""),
        replace(pair, fingerprint_sha256="0" * 64),
    ):
        with pytest.raises((ConnectorError, TrustError)):
            await peer.open().plan(wrong, "dep-1")
    with pytest.raises(ConnectorError):
        await peer.open().plan(pair, "../dep")
    before.same()


async def test_the_servers_own_checker_judges_the_staged_files(
    judging_peer: Peer, pair: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check put out of action: the server still refuses the staged pair, and nothing is touched."""
    before = Before(judging_peer)
    spoil(pair)
    monkeypatch.setattr("certctl.connectors.host.pair.public_key_matches", lambda *_: None)
    with pytest.raises(Rejected, match=r"(?s)validate failed.*(key|private)"):
        await deploy(judging_peer.open(), pair)
    before.same()


async def test_the_staged_files_are_read_back(peer: Peer, pair: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair turns wrong on its way to the disk: found before anything is in place."""
    before, target = Before(peer), peer.open()
    other = make_pair()[1]

    def swapped(self: Any, entries: Any, files: Any) -> dict[str, str]:
        key = b"-----BEGIN PRIVATE KEY" + other.partition(b"-----BEGIN PRIVATE KEY")[2]
        wrong = [msgspec.structs.replace(file, data=with_key(file.data, key)) for file in files]
        return stage(self, entries, wrong)

    stage = Group.stage
    monkeypatch.setattr(Group, "stage", swapped)
    with pytest.raises(Rejected, match="do not belong together"):
        await deploy(target, pair)
    before.same()


def with_key(data: bytes, key: bytes) -> bytes:
    start, end = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----\n"
    if start not in data:
        return data
    return data.partition(start)[0] + key + data.partition(end)[2]


def spoil(pair: Material) -> None:
    assert pair.key_path is not None
    pair.key_path.write_bytes(make_pair()[1])


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true"])
async def test_a_reload_that_fails_or_does_nothing_is_undone(peer: Peer, pair: Material, program: str) -> None:
    before = Before(peer)
    changes = peer.sabotage(program)
    with pytest.raises(ConnectorError, match="old files are back"):
        await deploy(peer.open(**changes, probe_timeout="700ms"), pair)
    before.same()


@pytest.mark.parametrize("name", ["NGINX", "Files", "HAProxy-runtime-API", "Dovecot", "Caddy"])
async def test_a_server_that_is_dead_for_a_moment_is_waited_for(name: str, pair: Material) -> None:
    """A reload that reaches nobody is no verdict on the pair: a service manager is about to start the server again.

    Apache is started by its own reload, and HAProxy's workers go on without their master.
    """
    for peer in started(name):
        target, before = peer.open(probe_timeout="700ms"), peer.on_disk()
        peer.stop()
        with pytest.raises(Temporary):
            await deploy(target, pair)
        peer.start()
        target = peer.open()  # with all the patience that a reload on a busy machine takes
        assert isinstance(target, Recovers)
        await target.recover()
        assert peer.on_disk() == peer.served() == before
        assert not peer.leftovers()
        await deploy(target, pair, "dep-2")
        assert peer.served() == pair.fingerprint_sha256


async def test_a_broken_live_configuration_is_found_and_undone(peer: Peer, pair: Material) -> None:
    before = Before(peer)
    peer.break_live()
    with pytest.raises(ConnectorError, match=r"(?s)test failed.*is served again"):
        await deploy(peer.open(), pair)
    before.same()


async def test_an_action_that_is_not_allowed(peer: Peer, pair: Material) -> None:
    before = Before(peer)
    needed = [action for action in (await peer.open().plan(pair, "dep-0")).actions if not action.endswith(".test")]
    for action in [name for name in needed if not name.endswith("runtime-api")] + [str(path) for path in peer.sockets]:
        peer.write_allow_file(without=(action,))
        with pytest.raises(Misconfigured, match=f"does not allow .*{action}"):
            await deploy(peer.open(), pair)
    before.same()


def test_killed_half_way_it_is_settled_at_the_next_start(peer: Peer, zygote: Zygote, tmp_path: Path) -> None:
    for point in DEATHS:
        before = peer.served()
        pair = material(tmp_path / "keys", *make_pair())
        order = {**msgspec.structs.asdict(pair), "key_path": str(pair.key_path)}
        assert zygote.run(**peer.order(material=order, point=point)) == -9, point
        assert peer.served() in {before, pair.fingerprint_sha256}, point
        assert zygote.run(**peer.order(recover=True)) == 0, point
        assert peer.served() == peer.on_disk(), point
        assert peer.served() == (before if point == "swap.staged" else pair.fingerprint_sha256), point
        assert not peer.leftovers(), point


@pytest.mark.parametrize("name", [name for name in PEERS if name not in {"NGINX", "Files"}])
async def test_once_called_served_the_old_one_is_never_seen_again(name: str, tmp_path: Path) -> None:
    """Old workers must be gone before a receipt is written; others look all the while, to keep them busy.

    NGINX has this test, harder, in `tests/real/test_nginx_target.py`.
    """
    for peer in started(name):
        with Looker(peer), Looker(peer):
            for number in range(2):
                pair = material(tmp_path / "keys", *make_pair())
                await deploy(peer.open(), pair, f"dep-{number}")
                assert await asyncio.to_thread(looks, peer) == {pair.fingerprint_sha256}, number


def looks(peer: Peer) -> set[str]:
    return {peer.served() for _ in range(15)}


class Looker:
    """Looks at the server all the time from a thread; what it sees does not matter."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException, imaplib.IMAP4.error):
                self._peer.served()
            self._stop.wait(0.005)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
