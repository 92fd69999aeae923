"""What the images run, run as they run it: as nobody's root, with no capability, on a root file system that is read only.

No container engine is needed for that: a mount namespace with an empty /var/lib/certctl and /tmp, a user namespace in
which we are 1000, and the last stage's own ENV, ENTRYPOINT, CMD and HEALTHCHECK. That the images build is not shown.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from packages.test_dockerfiles import DOCKER, health, last_stage
from peers.nginx import free_port

pytestmark = pytest.mark.timeout(300)
STATE = "/var/lib/certctl"
PROGRAMS = Path(sys.executable).parent
# $1: a file to be found as $STATE/server-ca.pem, if any; the rest is the command
INSIDE = f"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs {Path(STATE).parent}
mkdir -m 0700 {STATE}
[ -z "$1" ] || cp "$1" {STATE}/server-ca.pem
shift
mount -t tmpfs -o mode=1777 tmpfs /tmp
awk '{{print $5}}' /proc/self/mountinfo | grep -v -E '^/(dev|proc|sys|tmp)(/|$)|^{Path(STATE).parent}$' | while read -r at; do
  mount -o remount,bind,ro "$at"
done
exec unshare --user --map-user=1000 --map-group=1000 -- "$@"
"""


class Container:
    """One image's process, as its last stage describes it."""

    def __init__(self, image: str, log: Path, trust: Path | None = None, **environ: str) -> None:
        stage = last_stage(DOCKER / f"{image}.Dockerfile")
        (given,) = [rest for word, rest in stage if word == "ENV"]
        told = dict(word.split("=", 1) for word in shlex.split(given))
        assert [rest for word, rest in stage if word == "USER"] == ["1000:1000"]
        command = [
            word for kind in ("ENTRYPOINT", "CMD") for each, rest in stage if each == kind for word in json.loads(rest)
        ]
        self.health = health(DOCKER / f"{image}.Dockerfile")
        self.environ = told | {"PATH": f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin:/sbin:/usr/sbin"} | environ
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", INSIDE, "sh", str(trust or ""), *command],
                env=self.environ,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def healthy(self) -> bool:
        """What the image's own health check says, asked in there."""
        assert self.process.poll() is None, self.log
        command = [word.replace("/usr/local/bin/server-health", str(DOCKER / "server-health")) for word in self.health]
        asked = subprocess.run(
            ["nsenter", "--mount", "--target", str(self.process.pid), "--", *command],
            env=self.environ,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return asked.returncode == 0

    def becomes_healthy(self) -> None:
        deadline = time.monotonic() + 120
        while not self.healthy():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)

    def file(self, path: str) -> Path:
        return Path(f"/proc/{self.process.pid}/root{path}")

    def confined(self) -> None:
        """That what runs is who and where it should be."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
        assert Path(f"/proc/{self.process.pid}/uid_map").read_text().split() == ["1000", str(os.getuid()), "1"]
        for line in Path(f"/proc/{self.process.pid}/mountinfo").read_text().splitlines():
            at, options = line.split()[4], line.split()[5].split(",")
            if not re.match(r"/(dev|proc|sys|tmp)(/|$)", at) and at != str(Path(STATE).parent):
                assert "ro" in options, line

    def ends_well(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log
        assert "Read-only file system" not in self.log
        assert "Traceback" not in self.log


def test_server_and_agent_do_their_work_as_their_images_run_them(tmp_path):
    ports = {"CERTCTL_SERVER_PORT": str(free_port()), "CERTCTL_PKI_HTTP_PORT": str(free_port())}
    # nothing here listens beyond this machine
    hosts = {"CERTCTL_SERVER_HOST": "127.0.0.1", "CERTCTL_PKI_HTTP_HOST": "127.0.0.1"}
    token = "shared-by-the-agents-of-this-test-only"
    with Container("server", tmp_path / "server", CERTCTL_AGENT_BOOTSTRAP_TOKEN=token, **ports, **hosts) as server:
        server.becomes_healthy()
        server.confined()
        trust = tmp_path / "ca.pem"
        trust.write_bytes(server.file(f"{STATE}/ca.pem").read_bytes())
        names = {
            "CERTCTL_SERVER_URL": f"https://localhost:{ports['CERTCTL_SERVER_PORT']}",
            "CERTCTL_SERVER_CA_BUNDLE_PATH": f"{STATE}/server-ca.pem",
            "CERTCTL_AGENT_NAME": "in-an-image",
            "CERTCTL_AGENT_ENROLMENT_TOKEN": token,
        }
        with Container("agent", tmp_path / "agent", trust, **names) as agent:
            agent.becomes_healthy()
            agent.confined()
            assert agent.file(f"{STATE}/agent/agent.json").is_file(), "its identity is in the volume"
            agent.ends_well()
        server.ends_well()
