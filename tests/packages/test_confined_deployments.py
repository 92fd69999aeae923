"""Under the agent's unit and a server's drop-in every kind of server is deployed to, and nothing else can be written; under
its own unit the control plane starts, issues and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from certctl.connectors.base.target import Material
from integration.test_server_start import Server
from packages.confined import settings
from packages.onefile import ROOT
from peers.nginx import make_pair
from peers.nginx_story import material
from peers.servers import PEERS, Peer

UNIT = (ROOT / "deploy" / "systemd" / "certctl-agent.service").read_text()
CONFINED = Path(__file__).with_name("confined.py")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="makes namespaces and knows x86-64"),
]


def drop_in(kind: str) -> str:
    path = ROOT / "deploy" / "systemd" / "agent-drop-ins" / f"{kind.lower()}.conf"
    return path.read_text() if path.exists() else ""


@pytest.fixture(params=[name for name in PEERS if not name.startswith("Postfix-")])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    peer = PEERS[request.param]()
    try:
        peer.start()
        yield peer
    finally:
        peer.close()


@pytest.fixture
def pair(tmp_path: Path) -> Material:
    return material(tmp_path / "keys", *make_pair(), chain_pem=make_pair("Issuing CA")[0])


def play(peer: Peer, pair: Material, texts: list[str], writable: list[Path]) -> subprocess.CompletedProcess[str]:
    (peer.dir / "state").mkdir(exist_ok=True)
    told: dict[str, Any] = {**msgspec.structs.asdict(pair), "key_path": str(pair.key_path)}
    paths = [str(path) for path in (peer.dir / "state", *writable)]
    passed = str(peer.dir / "state" / "passed.json")
    order = peer.order(material=told, texts=texts, writable=paths) | {"passed": passed}
    file = peer.dir / "order.json"
    file.write_text(json.dumps(order))
    command = [sys.executable, str(CONFINED), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_is_deployed_to(peer, pair):
    # a peer keeps certificates, configuration, logs and pid in one folder: a drop-in that opens more than the folder of the
    # certificates opens that one here
    text = drop_in("NGINX" if peer.kind == "Files" else peer.kind)
    opened = " ".join(settings([text])["ReadWritePaths"]).split()
    ended = play(peer, pair, [UNIT, text], [peer.dir if len(opened) > 1 else peer.tls_dir])
    assert ended.returncode == 0, ended.stdout[-1500:] + ended.stderr[-3000:]
    assert peer.served() == pair.fingerprint_sha256


def test_without_the_drop_in_nothing_is_touched(pair):
    peer = PEERS["NGINX"]()
    try:
        peer.start()
        before, files = peer.served(), peer.files()
        ended = play(peer, pair, [UNIT], [])
        assert ended.returncode != 0
        assert "Read-only file system" in ended.stderr, ended.stderr[-2000:]
        assert (peer.served(), peer.files()) == (before, files)
    finally:
        peer.close()


def test_the_bounds_hold(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"texts": [UNIT], "writable": [str(here)], "elsewhere": str(elsewhere), "look": True}))
    command = [sys.executable, str(CONFINED), str(order)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")
    assert {int(found[name], 16) for name in ("CapBnd", "CapEff")} == {0b1011}, "CHOWN, DAC_OVERRIDE, FOWNER"
    assert (found["write elsewhere"], found["write here"], found["own"]) == ("EROFS", "", "")
    assert {found[what] for what in ("become another", "chroot", "mount")} == {"EPERM"}
    assert not elsewhere.exists()


def test_the_control_plane_works_within_its_unit(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    server = Server(state)
    order = tmp_path / "order.json"
    texts = [(ROOT / "deploy" / "systemd" / "certctl-server.service").read_text()]
    command = [sys.executable, "-m", "certctl.cli.server"]
    order.write_text(json.dumps({"texts": texts, "writable": [str(state)], "command": command}))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(CONFINED), str(order)], env=server.environ, stdout=log, stderr=log, cwd="/"
        )
    try:
        deadline = time.monotonic() + 60
        while not ready(server):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "Seccomp:\t2\n" in status
        assert "CapEff:\t0000000000000000\n" in status
        # it made its CA, issued its own TLS certificate from it, and serves it: `get` trusts nothing else
        assert server.get("/api/v1/version").status_code == 200
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, (tmp_path / "log").read_text()


def ready(server: Server) -> bool:
    with contextlib.suppress(OSError, httpx.HTTPError):
        return server.get("/ready").status_code == 200
    return False
