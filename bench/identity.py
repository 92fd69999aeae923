"""`make bench BENCH=identity`: how long a call takes to be recognised and judged, in one process with a warm memory.

`key_check`: from the raw headers of a request to a Caller, with a real key of the API; `session_check`: the same with a
real session's cookies. `rbac_check`: a permission and how far it reaches, of a key with 40 grants. `limit_sha256`: the
one hash that no check can be without. Usage: bench/run.py identity [--keep]
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import structlog
from kit import arguments, load, tell

from certctl.core.rules import DoorRules
from certctl.doors.cookies import CSRF_COOKIE, SESSION_COOKIE
from certctl.doors.entry import admit
from certctl.doors.identity import Knock, authorise
from integration.api_house import open_api

ROUNDS = 20_000


async def measure(check: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Microseconds of one check: median, 99th percentile (which has the look into the database, once in 0.9 s)."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        await check()
        took.append((time.perf_counter_ns() - began) / 1000)
    took.sort()
    return {"p50_us": round(statistics.median(took), 1), "p99_us": round(took[int(ROUNDS * 0.99)], 1)}


async def identity() -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_api(Path(folder) / "data", "", DoorRules()) as api:
            key = await api.key("r-viewer")
            for number in range(40):
                team = (await api.made("/api/v1/teams", {"name": f"team {number}"}))["id"]
                grant = {"role_id": "r-operator", "scope_type": "team", "scope_id": team}
                await api.call("POST", "/api/v1/auth/keys/key-r-viewer-1/roles", grant)
            answer = await api.call("POST", "/auth/login", {"api_key": key}, key="")
            cookies = {
                line.partition("=")[0]: line.partition(";")[0].partition("=")[2]
                for line in answer.headers.get_list("set-cookie")
            }
            by_key = Knock(headers={"authorization": f"Bearer {key}"}, method="POST")
            cookie = f"{SESSION_COOKIE}={cookies[SESSION_COOKIE]}; {CSRF_COOKIE}={cookies[CSRF_COOKIE]}"
            by_session = Knock(headers={"cookie": cookie, "x-csrf-token": cookies[CSRF_COOKIE]}, method="POST")
            caller = await admit(api.state, by_key)

            async def rbac() -> None:
                authorise(caller, "cert.issue")
                caller.permissions.get("cert.issue")

            async def one_hash() -> None:
                hashlib.sha256(key.encode()).hexdigest()

            return {
                "rounds": ROUNDS,
                "load_before": load(),
                "limit_sha256": await measure(one_hash),
                "key_check": await measure(lambda: admit(api.state, by_key)),
                "session_check": await measure(lambda: admit(api.state, by_session, browsers=True)),
                "rbac_check": await measure(rbac),
            }


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    asked = arguments(__doc__).parse_args(given)
    # a line a call is no part of a check
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    tell("identity", asyncio.run(identity()), keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
