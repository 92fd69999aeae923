"""Real processes, started cheaply: one process loads the code once and forks a child for every start.

A child is a process of its own in everything: pid, environment, log, signals; only the seconds of importing are saved, so that a
test can afford many deaths and fifty agents. None outlives its nursery. `Child` speaks like `subprocess.Popen`, held by a pidfd: no signal ever goes to a
pid that has come to mean another process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
SERVER, AGENT = HERE / "server_process.py", HERE / "agent_process.py"
_LOADED = (
    "certctl.cli.server",
    "certctl.processes",
    "certctl.api.app",
    "certctl.bootstrap",
    "certctl.store.migrate",
    "certctl.connectors.issuers.local",
    "asyncpg",
    "aiosqlite",
    "uvloop",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "certctl.cli.agent",
    "certctl.agent.enrol",
    "certctl.agent.loop",
    "certctl.agent.server",
    "certctl.agent.steps",
    "certctl.connectors.host.swap",
    "certctl.connectors.targets.files",
    "certctl.connectors.targets.nginx",
)


_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)


class Child:
    """One process of a nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        with self._nursery.turn:  # once another thread has reaped it, its descriptor may be that of another file
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        waiting = select.poll()  # unlike select(2), it takes descriptors of any number
        waiting.register(self._pidfd, select.POLLIN)
        if waiting.poll(None if timeout is None else timeout * 1000):
            with self._nursery.turn:  # another thread may have seen the same end: a child is reaped once
                if self.returncode is None:
                    self.returncode = int(self._nursery.ask({"reap": self.pid}))
                    os.close(self._pidfd)
        return self.returncode


class Nursery:
    """Use in `with`; on leaving, whatever still runs of its children is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peers.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HERE.parent,
            text=True,
        )
        self._children: list[Child] = []
        self.turn = threading.RLock()  # one question at a time: the answers carry no name

    def spawn(self, script: Path, arguments: list[str], environ: dict[str, str], log: Path) -> Child:
        """Run `script` as `python script arguments...` would, its output appended to `log`."""
        order = {"script": str(script), "arguments": arguments, "environ": environ, "log": str(log)}
        child = Child(self, int(self.ask(order)))
        self._children.append(child)
        return child

    def ask(self, order: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self.turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        assert answer, "the nursery died"
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.wait(60)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def _become(order: dict[str, Any]) -> None:
    """In the child: be the process that was ordered."""
    os.setsid()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(order["environ"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, max(nothing, log) + 1)
    sys.argv = [order["script"], *order["arguments"]]
    runpy.run_path(order["script"], run_name="__main__")


def _child(order: dict[str, Any]) -> None:
    code = 1
    try:
        _become(order)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _make_routes() -> None:
    """Routes are the same for everybody and take half a second of each start; the state that they find is the child's."""
    from certctl.api import app as rest
    from certctl.web import app as web
    from certctl.web import pages

    for module, name in ((rest, "create_rest"), (web, "create_pages")):
        real = getattr(module, name)
        made = real(None)

        def create(state: Any, real: Any = real, made: Any = made) -> Any:
            if state is None:  # only to be looked at
                return real(None)
            made.state.door = state
            return made

        setattr(module, name, create)
    # and so are the templates of pages
    for template in pages.templates().list_templates():
        pages.templates().get_template(template)


def main() -> None:
    for name in _LOADED:
        importlib.import_module(name)
    _make_routes()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a child says before it has a log of its own is no answer
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        else:
            pid = os.fork()
            if pid == 0:
                _child(order)
            answers.write(f"{pid}\n")
        answers.flush()


if __name__ == "__main__":
    main()
