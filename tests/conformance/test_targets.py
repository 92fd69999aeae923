"""What every target must do, whatever server it serves. A new target adds one line to TARGETS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from certctl.connectors.base.target import Material, Probes, Recovers, Target
from certctl.core.errors import ConnectorError, TrustError
from peers.nginx import NGINX, Nginx, make_pair
from peers.nginx_story import material, target_of


class Peer(Protocol):
    """A real server and a way to see what it serves without code of ours."""

    def served(self) -> str: ...

    def open(self) -> Target: ...

    def files(self) -> dict[str, bytes]: ...


class NginxPeer:
    """A private NGINX."""

    def __init__(self, folder: Path) -> None:
        self.nginx = Nginx(folder)
        self.nginx.start()

    def served(self) -> str:
        return self.nginx.served()

    def open(self) -> Target:
        return target_of(self.nginx)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.nginx.tls_dir.iterdir()}

    def close(self) -> None:
        self.nginx.stop()


TARGETS: dict[str, Callable[[Path], NginxPeer]] = {"NGINX": NginxPeer}

pytestmark = pytest.mark.real


@pytest.fixture(params=TARGETS)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NginxPeer]:
    if not Path(NGINX).exists():
        pytest.skip("no NGINX here")
    started = TARGETS[request.param](tmp_path / "peer")
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def pair(tmp_path: Path) -> Material:
    return material(tmp_path / "keys", *make_pair(), chain_pem=make_pair("Issuing CA")[0])


async def test_plan_touches_nothing_and_tells_no_secret(peer: Peer, pair: Material) -> None:
    before, served = peer.files(), peer.served()
    plan = await peer.open().plan(pair, "dep-1")
    assert peer.files() == before
    assert peer.served() == served
    assert plan.plan_id == "dep-1"
    assert plan.fingerprint_sha256 == pair.fingerprint_sha256
    assert plan.actions
    assert all(file.changes for file in plan.files)
    assert "PRIVATE" not in msgspec.json.encode(plan).decode()
    assert pair.key_path is not None
    assert pair.key_path.read_text().splitlines()[1] not in repr(plan)


async def test_apply_is_seen_from_outside(peer: Peer, pair: Material) -> None:
    target = peer.open()
    receipt = await target.apply(await target.plan(pair, "dep-1"), pair)
    assert peer.served() == pair.fingerprint_sha256 == receipt.served_after == receipt.fingerprint_sha256
    assert receipt.served_before not in {"", receipt.served_after}
    assert receipt.plan_id == "dep-1"
    assert receipt.applied_at.tzinfo is not None
    assert not any(file.changes for file in (await target.plan(pair, "dep-2")).files)


async def test_twice_with_one_plan_is_once(peer: Peer, pair: Material) -> None:
    target = peer.open()
    plan = await target.plan(pair, "dep-1")
    await target.apply(plan, pair)
    files = peer.files()
    assert (await target.apply(plan, pair)).skipped_as_identical
    assert peer.files() == files


async def test_a_plan_for_another_pair_is_refused(peer: Peer, pair: Material, tmp_path: Path) -> None:
    target, before = peer.open(), peer.served()
    plan = await target.plan(pair, "dep-1")
    with pytest.raises(ConnectorError):
        await target.apply(plan, material(tmp_path / "keys", *make_pair()))
    assert peer.served() == before


async def test_what_must_not_be_deployed_is_refused_and_nothing_changes(
    peer: Peer, pair: Material, tmp_path: Path
) -> None:
    before, served = peer.files(), peer.served()
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
    assert peer.files() == before
    assert peer.served() == served


async def test_optional_abilities_tell_the_truth(peer: Peer, pair: Material) -> None:
    target = peer.open()
    if isinstance(target, Probes):
        assert await target.served() == peer.served()
    if isinstance(target, Recovers):
        assert await target.recover() == ()
