#!/usr/bin/env python3
"""Stands in for systemctl where systemd is not process 1: starts what the installed unit says, in the tree SERVICE_ROOT.

It reads ExecStart, EnvironmentFile, CapabilityBoundingSet and NoNewPrivileges from the unit and obeys them; the rest of the
unit it does not know. State: SERVICE_ROOT/run/{pid,log,calls}.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["SERVICE_ROOT"])
RUN = ROOT / "run"


def unit() -> dict[str, str]:
    lines = (ROOT / "etc/systemd/system/certctl-agent.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def stop() -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((RUN / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z":
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    (RUN / "pid").unlink(missing_ok=True)


def start() -> None:
    told = unit()
    environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for line in (ROOT / told["EnvironmentFile"].lstrip("-/")).read_text().splitlines():
        if line and not line.startswith("#"):
            name, value = line.split("=", 1)
            environ[name] = str(ROOT / value.lstrip("/")) if name.endswith("_PATH") else value
    state = ROOT / "var/lib/certctl"
    environ |= {"CERTCTL_AGENT_STATE_DIR": str(state / "agent"), "CERTCTL_KEY_DIR": str(state / "keys")}
    environ["CERTCTL_AGENT_ALLOW_FILE"] = str(ROOT / "etc/certctl/allow.toml")
    program, *arguments = shlex.split(told["ExecStart"])
    command = [str(ROOT / program.lstrip("/")), *arguments]
    if os.geteuid() == 0:
        powers = [f"+{word.removeprefix('CAP_').lower()}" for word in told["CapabilityBoundingSet"].split()]
        bounds = ["setpriv", "--inh-caps=-all", "--bounding-set", ",".join(["-all", *powers])]
        command = [*bounds, *(["--no-new-privs"] if told["NoNewPrivileges"] == "yes" else []), *command]
    with (RUN / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (RUN / "pid").write_text(str(process.pid))


def main() -> None:
    RUN.mkdir(parents=True, exist_ok=True)
    with (RUN / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    if sys.argv[1] == "restart":
        stop()
        start()
    elif sys.argv[1] == "disable":
        stop()


if __name__ == "__main__":
    main()
