"""What befalls a town: seeded, random, several things at a time. Kills, stand-stills, partitions, a crashing database, a slow CA.

Whatever is struck is mended after a while, as a service manager or a network operator would; `heal` mends everything at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.lines import Line
from chaos.town import Host, Hotel, Replica, Town
from peers.nursery import Child

_CANNOT_START = (4, 5)  # the exit codes, see certctl.cli.server
WEIGHTS = {
    "kill_agent": 8,
    "freeze_agent": 3,
    "cut_agent": 3,
    "kill_server": 3,
    "freeze_server": 1,
    "cut_server_from_database": 2,
    "kill_target": 4,
    "crash_database": 1,
    "kill_database_backend": 2,
    "slow_ca": 1,
}


class Fire(threading.Thread):
    """Strikes every `pause` seconds on average until told to stop."""

    def __init__(self, town: Town, seed: int, pause: float, say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.town, self.say = town, say
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._chance = random.Random(seed)
        self._pause = pause
        self._stop_asked = threading.Event()
        self._mending: list[tuple[float, Any, Callable[[], None]]] = []
        self._struck: set[Any] = set()
        self._rising: set[Any] = set()  # targets that are being started again: nobody starts one twice

    def run(self) -> None:
        again_at = time.monotonic()
        try:
            while not self._stop_asked.wait(0.05):
                self._mend(time.monotonic())
                self._raise_the_dead()
                if time.monotonic() >= again_at:
                    again_at = time.monotonic() + self._chance.expovariate(1 / self._pause)
                    self.strike()
        except Exception as error:
            self.faults.append(f"the fire itself went out: {error!r}")

    def strike(self, kind: str = "") -> None:
        """One thing, by chance."""
        kind = kind or self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if getattr(self, f"_{kind}")():
            self.counts[kind] += 1

    def heal(self) -> None:
        """Stop striking, mend everything, start what is dead."""
        self._stop_asked.set()
        self.join(180)  # it may be waiting for the database that it crashed
        if self.is_alive():
            self.faults.append("the fire could not be put out")
        self._mend(float("inf"))
        self._raise_the_dead()

    def _later(self, seconds: float, victim: Any, mend: Callable[[], None]) -> None:
        self._struck.add(victim)
        self._mending.append((time.monotonic() + seconds, victim, mend))

    def _mend(self, now: float) -> None:
        for one in [one for one in self._mending if one[0] <= now]:
            self._mending.remove(one)
            one[2]()
            self._struck.discard(one[1])

    def _one_of(self, victims: list[Any]) -> Any:
        free = [one for one in victims if one not in self._struck]
        return self._chance.choice(free) if free else None

    def _raise_the_dead(self) -> None:
        """Start again what ended by itself: nothing should."""
        for host in self.town.hosts:
            if host not in self._struck and host.agent is not None and host.agent.poll() is not None:
                self._note_death(host.name, host.agent)
                host.start_agent()
        for replica in self.town.replicas:
            if replica not in self._struck and replica.process is not None and replica.process.poll() is not None:
                self._note_death(replica.name, replica.process)
                replica.start()

    def _note_death(self, name: str, child: Child) -> None:
        if child.returncode in _CANNOT_START:
            # started while the database was not there: said in words, and a service manager starts it again
            self.counts["refused_to_start"] += 1
            self.say(f"{name} refused to start")
            return
        self.faults.append(f"{name} ended by itself with {child.returncode}: {self.town.log(name)[-1500:]}")
        self.say(f"{name} ended by itself with {child.returncode}")

    # -- what there is -------------------------------------------------------------------------------------------------

    def _kill_agent(self) -> bool:
        host: Host | None = self._one_of(self.town.hosts)
        if host is None or host.agent is None:
            return False
        self.say(f"kill -9 the agent of {host.name}")
        host.agent.kill()
        host.agent.wait(60)
        self._later(self._chance.uniform(0, 3), host, host.start_agent)
        return True

    def _freeze_agent(self) -> bool:
        host: Host | None = self._one_of(self.town.hosts)
        if host is None or host.agent is None:
            return False
        return self._freeze(host.agent, host, f"the agent of {host.name}")

    def _freeze(self, child: Child, victim: Any, name: str) -> bool:
        seconds = self._chance.uniform(4, 12)
        self.say(f"{name} stands still for {seconds:.1f} s")
        child.send_signal(signal.SIGSTOP)
        self._later(seconds, victim, lambda: child.send_signal(signal.SIGCONT))
        return True

    def _cut_agent(self) -> bool:
        host: Host | None = self._one_of(self.town.hosts)
        return host is not None and self._cut(host.line, host, f"the agent of {host.name} from the servers")

    def _cut(self, line: Line, victim: Any, name: str) -> bool:
        seconds = self._chance.uniform(4, 12)
        self.say(f"a partition cuts {name} for {seconds:.1f} s")
        self.town.lines.cut(line)
        self._later(seconds, victim, lambda: self.town.lines.mend(line))
        return True

    def _kill_server(self) -> bool:
        replica: Replica | None = self._one_of(self.town.replicas)
        if replica is None or replica.process is None:
            return False
        self.say(f"kill -9 {replica.name}")
        replica.process.kill()
        replica.process.wait(60)
        self._later(self._chance.uniform(0, 3), replica, replica.start)
        return True

    def _freeze_server(self) -> bool:
        replica: Replica | None = self._one_of(self.town.replicas)
        if replica is None or replica.process is None:
            return False
        return self._freeze(replica.process, replica, replica.name)

    def _cut_server_from_database(self) -> bool:
        replica: Replica | None = self._one_of(self.town.replicas)
        return replica is not None and self._cut(replica.line, replica, f"{replica.name} from the database")

    def _kill_target(self) -> bool:
        """NGINX, or one process of small endpoints; started again at once and, like a service manager, until it stays up."""
        servers: list[Any] = [host for host in self.town.hosts if host.nginx is not None]
        victim = self._one_of([one for one in [*servers, *self.town.hotels] if one not in self._rising])
        if victim is None:
            return False
        begun = time.monotonic()
        self._rising.add(victim)
        hosts = victim.hosts if isinstance(victim, Hotel) else [victim]
        for host in hosts:
            host.down.append((begun, float("inf")))
        if isinstance(victim, Hotel):
            self.say(f"kill -9 {victim.name} ({len(hosts)} targets)")
            assert victim.process is not None
            victim.process.kill()
            victim.process.wait(60)
            victim.start()
        else:
            self.say(f"kill -9 the NGINX of {victim.name}")
            assert victim.nginx is not None
            victim.nginx.kill()
        threading.Thread(target=self._until_up, args=(victim, hosts), daemon=True).start()
        return True

    def _until_up(self, victim: Any, hosts: list[Host]) -> None:
        waiting = list(hosts)
        deadline = time.monotonic() + 60
        while waiting and time.monotonic() < deadline:
            if isinstance(victim, Host):
                with contextlib.suppress(AssertionError):
                    assert victim.nginx is not None
                    victim.nginx.start()
                    waiting = []
            else:
                waiting = [host for host in waiting if not _answers(host.port)]
            for host in hosts:
                if host not in waiting and host.down[-1][1] == float("inf"):
                    host.down[-1] = (host.down[-1][0], time.monotonic())
            time.sleep(0.1)
        self._rising.discard(victim)
        if waiting:
            self.faults.append(
                f"the target of {', '.join(h.name for h in waiting)} never came up with the files it had"
            )

    def _crash_database(self) -> bool:
        self.say("the database crashes (SIGQUIT) and is started again")
        self.town.postgres.crash()
        time.sleep(self._chance.uniform(0.2, 1.5))
        self.town.postgres.start_again()
        return True

    def _kill_database_backend(self) -> bool:
        """kill -9 of one backend: PostgreSQL ends all others with it and recovers, as after the kernel's memory killer."""
        children = Path(f"/proc/{self.town.postgres.process.pid}/task/{self.town.postgres.process.pid}/children")
        backends = []
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if b"certctl " in Path(f"/proc/{pid}/cmdline").read_bytes():
                    backends.append(int(pid))
        if not backends:
            return False
        pid = self._chance.choice(backends)
        self.say("kill -9 one backend of the database; all its connections end")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def _slow_ca(self) -> bool:
        if self.town.slow_ca_file in self._struck:
            return False
        seconds = self._chance.uniform(1, 5)
        self.say(f"the CA takes {seconds:.1f} s for each certificate, for 10 s")
        self.town.slow_ca_file.write_text(f"{seconds}")
        self._later(10, self.town.slow_ca_file, self.town.slow_ca_file.unlink)
        return True


def _answers(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
