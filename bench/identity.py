"""How long a call takes to be recognised and judged, in one process with a warm memory; prints JSON.

    .venv/bin/python bench/identity.py

`key_check`: from the raw headers of a request to a Caller, with a real key of the API; `session_check`: the same with a
real session's cookies. `rbac_check`: a permission and how far it reaches, of a key with 40 grants.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from certctl.core.rules import DoorRules
from certctl.doors.cookies import CSRF_COOKIE, SESSION_COOKIE
from certctl.doors.entry import admit
from certctl.doors.identity import Knock, authorise
from integration.api_house import open_api

ROUNDS = 20_000


async def measure(name: str, check: Callable[[], Awaitable[object]]) -> dict[str, float | str]:
    """Microseconds: median, 99th percentile."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        await check()
        took.append((time.perf_counter_ns() - began) / 1000)
    took.sort()
    return {"what": name, "p50_us": round(statistics.median(took), 1), "p99_us": round(took[int(ROUNDS * 0.99)], 1)}


async def main() -> None:
    """Measure and print."""
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

            rows = [
                await measure("key_check", lambda: admit(api.state, by_key)),
                await measure("session_check", lambda: admit(api.state, by_session, browsers=True)),
                await measure("rbac_check", rbac),
            ]
    sys.stdout.write(json.dumps({"python": sys.version.split()[0], "rounds": ROUNDS, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(main())
