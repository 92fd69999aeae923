"""The NGINX target against a real NGINX: what it serves is looked at from outside, with no code of ours."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from certctl.connectors.base.target import Material
from certctl.core.errors import Misconfigured, Rejected, Temporary, TrustError
from certctl.pki.keys import public_key_matches
from certctl.pki.pem import read_certificates
from peers.nginx import NGINX, Nginx, fingerprint, make_pair
from peers.nginx_story import deploy, material, target_of
from peers.zygote import Zygote

pytestmark = [pytest.mark.real, pytest.mark.skipif(not Path(NGINX).exists(), reason="no NGINX here")]

NOBODY = 65534


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx") as started:
        yield started


@pytest.fixture
def pair(tmp_path: Path) -> Material:
    return material(tmp_path / "keys", *make_pair())


class Watcher:
    """Looks at the server all the time from a thread; notes every certificate seen and every handshake that failed."""

    def __init__(self, nginx: Nginx) -> None:
        self.seen: set[str] = set()
        self.failures: list[str] = []
        self.looks = 0
        self._nginx = nginx
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.is_set():
            try:
                self.seen.add(self._nginx.served())
                self.looks += 1
            except OSError as error:
                self.failures.append(repr(error))
            time.sleep(0.002)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)


def leftovers(nginx: Nginx) -> set[str]:
    state = nginx.dir / "state/swap"
    return {path.name for path in nginx.tls_dir.iterdir()} - {"cert.pem", "key.pem"} | {p.name for p in state.iterdir()}


def on_disk(nginx: Nginx) -> str:
    """The fingerprint of the pair on disk; raises unless its two files belong together."""
    certificate = nginx.cert_path.read_text()
    public_key_matches(nginx.key_path.read_bytes(), read_certificates(certificate)[0])
    return fingerprint(certificate)


def untouched(nginx: Nginx, before: str, inode: int) -> None:
    assert nginx.served() == before
    assert on_disk(nginx) == before
    assert nginx.key_path.stat().st_ino == inode
    assert not leftovers(nginx)


async def test_a_new_pair_is_deployed_and_served(nginx: Nginx, pair: Material) -> None:
    before, chain = nginx.served(), make_pair("Issuing CA")[0]
    pair = msgspec.structs.replace(pair, chain_pem=chain)
    receipt = await deploy(target_of(nginx), pair)
    assert nginx.served() == pair.fingerprint_sha256 == receipt.served_after == on_disk(nginx)
    assert receipt.served_before == before
    assert not receipt.skipped_as_identical
    assert receipt.actions_run == ("nginx.validate", "nginx.test", "nginx.reload")
    assert len(read_certificates(nginx.cert_path.read_text())) == 2
    assert nginx.key_path.stat().st_mode & 0o777 == 0o600
    assert not leftovers(nginx)


async def test_doing_it_again_is_skipped_only_while_it_is_served(nginx: Nginx, pair: Material, tmp_path: Path) -> None:
    target = target_of(nginx)
    await deploy(target, pair)
    again = await deploy(target, pair)
    assert again.skipped_as_identical
    assert again.actions_run == again.files_written == ()
    # The very bytes, laid there by hand without a reload: the server still serves others.
    other = material(tmp_path / "keys", *make_pair())
    nginx.cert_path.write_text(other.leaf_pem)
    assert other.key_path is not None
    nginx.key_path.write_bytes(other.key_path.read_bytes())
    assert nginx.served() == pair.fingerprint_sha256
    third = await deploy(target, other, "dep-2")
    assert not third.skipped_as_identical
    assert nginx.served() == other.fingerprint_sha256


async def test_a_chain_file_of_its_own(nginx: Nginx, pair: Material) -> None:
    chain = make_pair("Issuing CA")[0]
    target = target_of(nginx, chain_path=str(nginx.tls_dir / "chain.pem"), cert_file_mode="0640")
    await deploy(target, msgspec.structs.replace(pair, chain_pem=chain))
    assert (nginx.tls_dir / "chain.pem").read_text() == chain
    assert len(read_certificates(nginx.cert_path.read_text())) == 1
    assert nginx.cert_path.stat().st_mode & 0o777 == 0o640
    assert nginx.served() == pair.fingerprint_sha256


async def test_a_pair_that_does_not_match_is_refused_before_anything_is_touched(nginx: Nginx, pair: Material) -> None:
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    assert pair.key_path is not None
    pair.key_path.write_bytes(make_pair()[1])
    with pytest.raises(TrustError, match="does not belong"):
        await target_of(nginx).plan(pair, "dep-1")
    untouched(nginx, before, inode)


@pytest.mark.parametrize("start", [-timedelta(days=30), timedelta(hours=1)])
async def test_an_expired_or_future_certificate_is_refused(nginx: Nginx, tmp_path: Path, start: timedelta) -> None:
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    wrong = material(tmp_path / "keys", *make_pair(not_before=datetime.now(UTC) + start))
    with pytest.raises(Rejected, match="expired at|not valid before"):
        await target_of(nginx).plan(wrong, "dep-1")
    untouched(nginx, before, inode)


async def test_nginx_itself_judges_the_staged_files(
    nginx: Nginx, pair: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check put out of action: NGINX still refuses the staged pair, and nothing is touched."""
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    assert pair.key_path is not None
    pair.key_path.write_bytes(make_pair()[1])
    monkeypatch.setattr("certctl.connectors.host.pair.public_key_matches", lambda *_: None)
    with pytest.raises(Rejected, match=r"nginx\.validate failed.*key values mismatch"):
        await deploy(target_of(nginx), pair)
    untouched(nginx, before, inode)


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true"])
async def test_a_reload_that_fails_or_does_nothing_is_undone(nginx: Nginx, pair: Material, program: str) -> None:
    before = nginx.served()
    nginx.write_allow_file(reload=program)
    with pytest.raises(Rejected, match="is served again"):
        await deploy(target_of(nginx, probe_timeout="5s"), pair)
    assert nginx.served() == before == on_disk(nginx)
    assert not leftovers(nginx)


async def test_a_broken_live_configuration_is_found_and_undone(nginx: Nginx, pair: Material) -> None:
    before = nginx.served()
    nginx.conf.write_text(nginx.conf.read_text() + "\nnonsense;\n")
    with pytest.raises(Rejected, match=r"(?s)nginx\.test failed.*is served again"):
        await deploy(target_of(nginx), pair)
    assert nginx.served() == before == on_disk(nginx)


async def test_the_wrong_endpoint_is_found_and_undone(nginx: Nginx, pair: Material, tmp_path: Path) -> None:
    before = nginx.served()
    told = "set endpoint and sni.*the old files are back, but are not seen to be served"
    with Nginx(tmp_path / "other") as other, pytest.raises(Rejected, match=told):
        await deploy(target_of(nginx, endpoint=other.endpoint, probe_timeout="1s"), pair)
    assert nginx.served() == before == on_disk(nginx)


async def test_a_stopped_server_ends_with_the_old_pair(nginx: Nginx, pair: Material) -> None:
    before = nginx.served()
    nginx.stop()
    with pytest.raises(Temporary, match="does not answer"):
        await deploy(target_of(nginx, probe_timeout="1s"), pair)
    assert on_disk(nginx) == before
    assert not leftovers(nginx)


async def test_an_action_that_is_not_allowed(nginx: Nginx, pair: Material) -> None:
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    for action in ("nginx.reload", "nginx.validate"):
        nginx.write_allow_file(without=(action,))
        with pytest.raises(Misconfigured, match=f"does not allow the action '{action}'"):
            await deploy(target_of(nginx), pair)
    untouched(nginx, before, inode)
    nginx.write_allow_file(without=("nginx.test",))
    assert (await deploy(target_of(nginx), pair)).actions_run == ("nginx.validate", "nginx.reload")


async def test_a_folder_that_is_not_allowed(nginx: Nginx, pair: Material) -> None:
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    nginx.write_allow_file(folder=nginx.dir / "elsewhere")
    with pytest.raises(Misconfigured, match="does not allow writing"):
        await deploy(target_of(nginx), pair)
    nginx.write_allow_file()
    untouched(nginx, before, inode)


async def test_a_certificate_path_that_is_a_link(nginx: Nginx, pair: Material) -> None:
    before = nginx.served()
    real = nginx.dir / "real.pem"
    nginx.cert_path.rename(real)
    nginx.cert_path.symlink_to(real)
    with pytest.raises(Misconfigured, match="symbolic link"):
        await deploy(target_of(nginx), pair)
    assert nginx.cert_path.is_symlink()
    assert nginx.served() == before == fingerprint(real.read_text())


async def test_an_address_that_may_not_be_dialled_stops_it_before_anything(nginx: Nginx, pair: Material) -> None:
    before, inode = nginx.served(), nginx.key_path.stat().st_ino
    target = target_of(nginx)
    target._policy = msgspec.structs.replace(target._policy, allow_loopback=False)
    with pytest.raises(Misconfigured, match="loopback"):
        await deploy(target, pair)
    untouched(nginx, before, inode)


async def test_the_sni_is_taken_from_the_certificate(nginx: Nginx, pair: Material) -> None:
    """Another default server on the same port: without a name, its certificate would be the one seen."""
    certificate_pem, key_pem = make_pair("default.example")
    (nginx.dir / "d.pem").write_text(certificate_pem)
    (nginx.dir / "d.key").write_bytes(key_pem)
    default = (
        f"http {{ server {{ listen 127.0.0.1:{nginx.port} ssl default_server; server_name _;"
        f" ssl_certificate {nginx.dir}/d.pem; ssl_certificate_key {nginx.dir}/d.key; }}"
    )
    nginx.conf.write_text(nginx.conf.read_text().replace("http {", default))
    target = target_of(nginx, sni="")
    receipt = await deploy(target, pair)
    assert receipt.served_after == pair.fingerprint_sha256 == await target.served() == nginx.served()


async def test_many_deployments_at_once_take_turns(nginx: Nginx, tmp_path: Path) -> None:
    pairs = [material(tmp_path / "keys", *make_pair()) for _ in range(4)]
    await asyncio.gather(*(deploy(target_of(nginx), pair, f"dep-{n}") for n, pair in enumerate(pairs)))
    assert nginx.served() == on_disk(nginx)
    assert nginx.served() in {pair.fingerprint_sha256 for pair in pairs}
    assert not leftovers(nginx)


async def test_once_called_served_the_old_one_is_never_seen_again(nginx: Nginx, tmp_path: Path) -> None:
    """NGINX lets old and new workers accept side by side for a while: a receipt must come after that.

    Several clients at once keep all workers accepting; with one alone, the same worker tends to get every connection.
    """
    with Watcher(nginx), Watcher(nginx):
        for number in range(12):
            pair = material(tmp_path / "keys", *make_pair())
            await deploy(target_of(nginx), pair, f"dep-{number}")
            seen = await asyncio.to_thread(lambda: {nginx.served() for _ in range(25)})
            assert seen == {pair.fingerprint_sha256}, number


def order(nginx: Nginx, pair: Material | None = None, **more: Any) -> dict[str, Any]:
    return {
        "config": nginx.target_config,
        "allow": str(nginx.allow_file),
        "state": str(nginx.dir / "state"),
        "passed": str(nginx.dir / "passed.json"),
        "material": {**msgspec.structs.asdict(pair), "key_path": str(pair.key_path)} if pair else None,
        **more,
    }


def test_killed_at_every_point_only_whole_pairs_are_served(nginx: Nginx, tmp_path: Path) -> None:
    with Zygote("peers.nginx_story:run") as zygote, Watcher(nginx) as watcher:
        valid = {nginx.served()}
        first = material(tmp_path / "keys", *make_pair())
        valid.add(first.fingerprint_sha256)
        assert zygote.run(**order(nginx, first)) == 0
        points = list(dict.fromkeys(json.loads((nginx.dir / "passed.json").read_text())))
        assert len(points) >= 20
        for point in points:
            before = nginx.served()
            pair = material(tmp_path / "keys", *make_pair())
            valid.add(pair.fingerprint_sha256)
            assert zygote.run(**order(nginx, pair, point=point)) == -9, point
            assert nginx.served() in {before, pair.fingerprint_sha256}, point
            assert zygote.run(**order(nginx, recover=True)) == 0, point
            served = nginx.served()
            assert served == on_disk(nginx), point
            assert served in {before, pair.fingerprint_sha256}, point
            assert {name for name in leftovers(nginx) if not name.startswith("trial-")} == set(), point
            assert zygote.run(**order(nginx, pair)) == 0, point
            assert nginx.served() == on_disk(nginx) == pair.fingerprint_sha256, point
    assert watcher.failures == []
    assert watcher.seen <= valid
    assert watcher.looks > 100


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_it_works_too_and_a_read_only_folder_is_told(tmp_path: Path) -> None:
    # pytest's folders are root's alone; this one is nobody's.
    home = Path("/tmp") / f"certctl-test-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        nginx = Nginx(home / "nginx")
        pair = material(home / "keys", *make_pair())
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        nginx.user = NOBODY
        with nginx, Zygote("peers.nginx_story:run") as zygote:
            before = nginx.served()
            # The folder is root's for a while: nobody may not write there.
            os.chown(nginx.tls_dir, 0, 0)
            assert zygote.run(**order(nginx, pair, uid=NOBODY)) == 1
            error = (nginx.dir / "error.txt").read_text()
            assert error.startswith("misconfigured: ")
            assert f"user {NOBODY} must be able to write it" in error
            assert nginx.served() == before == on_disk(nginx)
            assert not leftovers(nginx)
            os.chown(nginx.tls_dir, NOBODY, NOBODY)
            assert zygote.run(**order(nginx, pair, uid=NOBODY)) == 0
            assert nginx.served() == on_disk(nginx) == pair.fingerprint_sha256
            assert nginx.key_path.stat().st_uid == NOBODY
    finally:
        shutil.rmtree(home)


async def test_the_owner_is_kept_or_set(nginx: Nginx, pair: Material, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(nginx.key_path, NOBODY, NOBODY)
    await deploy(target_of(nginx), pair)
    assert nginx.key_path.stat().st_uid == NOBODY
    other = material(tmp_path / "keys", *make_pair())
    await deploy(target_of(nginx, key_file_owner="root", key_file_group="root"), other, "dep-2")
    assert nginx.key_path.stat().st_uid == 0
    with pytest.raises(Misconfigured, match="has no user 'nosuchuser'"):
        await deploy(target_of(nginx, key_file_owner="nosuchuser"), other, "dep-3")
