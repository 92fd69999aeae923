"""One chaos run: a town is built, set on fire while certificates are renewed, put out, and judged."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from chaos import judge
from chaos.fire import Fire
from chaos.lines import Lines
from chaos.look import Auditor, Looker, Prober
from chaos.town import Host, Town
from peers.nursery import Nursery
from peers.postgres import postgres

_LONGER_SECONDS = 120.0


class Wish(NamedTuple):
    """How large, how long, how hot. Times in seconds."""

    seconds: float
    agents: int
    nginx: int
    seed: int
    strike_every: float = 3.0
    ask_every: float = 1.5
    look_every: float = 0.02
    audit_every: float = 0.25
    settle: float = 300.0
    at_least: int = 0  # jobs promised and strikes made before it ends, on a machine that has other work too


class Asker(Looker):
    """Renews a certificate by chance every now and then; one in twelve is revoked and replaced instead."""

    def __init__(self, town: Town, seed: int, pause: float) -> None:
        super().__init__(town)
        self._chance, self._pause = random.Random(seed), pause
        self.promised: dict[str, str] = {}

    def look(self) -> None:
        while not self._stop_asked.wait(self._chance.expovariate(1 / self._pause)):
            self._ask(self._chance.choice(self.town.hosts), revoke=self._chance.random() < 1 / 12)

    def _ask(self, host: Host, *, revoke: bool) -> None:
        path, what = f"/api/v1/certificates/{host.certificate_id}", "revoke" if revoke else "renew"
        body = {"reason": "superseded", "replace": True} if revoke else {}
        try:
            reply = self.town.call("POST", f"{path}/{what}", body)
        except httpx.HTTPError:
            self.counts[f"{what}: the answer was lost"] += 1
            return
        self.counts[f"{what}: {reply.status_code}"] += 1
        if reply.status_code in {200, 202}:
            told = reply.json()
            for job_id in [told.get("job_id"), *(told.get("job_ids") or [])]:
                if job_id:
                    self.promised[job_id] = f"{what} {host.certificate_id}"
        elif reply.status_code not in {409, 503} and "Retry-After" not in reply.headers:
            self.faults.append(f"{what} {host.certificate_id} was answered {reply.status_code}: {reply.text[:200]}")


def run(wish: Wish, say: Callable[[str], None], keep: Path | None = None) -> dict[str, Any]:
    """The result as JSON-able data; `faults` in it is empty when nothing was lost, doubled or falsely green.

    `keep` is a folder that outlives the run, with every log in it; without one everything is removed.
    """
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certctl-chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        nursery = stack.enter_context(Nursery())
        lines = stack.enter_context(Lines())
        town = Town(folder, stack.enter_context(postgres()), nursery, lines, wish.agents, wish.nginx)
        stack.callback(town.close)
        begun = time.monotonic()
        town.open()
        town.wait(lambda: not judge.unsettled(town), "every first certificate is verified", wish.settle)
        say(
            f"{wish.agents} agents, 2 servers, {len(town.rows('SELECT id FROM certificate_versions'))} certificates verified "
            f"after {time.monotonic() - begun:.0f} s"
        )
        return _burn(town, wish, say)


def _burn(town: Town, wish: Wish, say: Callable[[str], None]) -> dict[str, Any]:
    prober = Prober(town, wish.look_every)
    auditor = Auditor(town, town.ca_path, wish.audit_every)
    asker = Asker(town, wish.seed, wish.ask_every)
    fire = Fire(town, wish.seed, wish.strike_every, say)
    threads: list[threading.Thread] = [prober, auditor, asker, fire]
    began, at = time.monotonic(), datetime.now(UTC)
    for thread in threads:
        thread.start()
    while all(thread.is_alive() for thread in threads):
        spent = time.monotonic() - began
        enough = min(len(asker.promised), sum(fire.counts.values())) >= wish.at_least
        if spent > wish.seconds and (enough or spent > wish.seconds + _LONGER_SECONDS):
            break
        time.sleep(0.2)
    asker.stop()
    fire.heal()
    burnt = time.monotonic() - began
    say(f"the fire is out after {burnt:.0f} s: {dict(fire.counts)}; waiting for all to come to rest")
    settled_after = _settle(town, fire, wish.settle)
    say(f"at rest after {settled_after:.1f} s" if settled_after is not None else "it did not come to rest")
    town.stop_renewing()
    _settle(town, fire, wish.settle)
    time.sleep(1.0)
    auditor.stop()
    last = [auditor.last_word(host) for host in town.hosts]  # at the end every single one is green and served
    prober.stop()
    greens = [f"{h.name} ends as {one}" for h, one in zip(town.hosts, last, strict=True) if one != "green_and_served"]
    faults = {
        "lost_or_doubled": judge.judge(town, prober, asker.promised),
        "falsely_green": [*auditor.faults, *greens],
        "not_a_valid_pair": prober.faults,
        "of_the_run": [*asker.faults, *fire.faults],
    }
    for kind, found in faults.items():
        for one in found:
            say(f"FAULT {kind}: {one}")
    return {
        "at": at.isoformat(timespec="seconds"),
        "wish": wish._asdict(),
        "burnt_seconds": round(burnt, 1),
        "settled_after_seconds": settled_after,
        "struck": dict(fire.counts.most_common()),
        "asked": dict(asker.counts.most_common()),
        "promised_jobs": len(asker.promised),
        "probes": dict(prober.counts),
        "audits": dict(auditor.counts.most_common()),
        **judge.statistics(town),
        "faults": {kind: found for kind, found in faults.items() if found},
    }


def _settle(town: Town, fire: Fire, seconds: float) -> float | None:
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        fire._raise_the_dead()
        if not judge.unsettled(town):
            return round(time.monotonic() - begun, 1)
        time.sleep(0.5)
    return None


class Log:
    """What was observed, line by line: on paper, on the screen, and counted."""

    def __init__(self, path: Path | None, *, loud: bool) -> None:
        self._path = path
        self._loud, self._began = loud, time.monotonic()
        self._lock = threading.Lock()
        self.lines: Counter[str] = Counter()

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:8.1f} s  {text}"
        with self._lock:
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(line + "\n")
            if self._loud:
                print(line, flush=True)


def as_json(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2, default=str)
