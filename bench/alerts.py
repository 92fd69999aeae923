"""`make bench BENCH=alerts`: an alert fan-out of 10,000 through the outbox to a signed webhook, on both databases.

`written`: notices a second into the outbox (200 a transaction). `routed_and_sent`: rows a second by one process, each
delivered once. `limit_posts`: the same posts to the same receiver without an outbox.
Usage: bench/run.py alerts [--keep]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import structlog
from kit import arguments, load, tell

from certctl.connectors.base.notifier import Message
from certctl.connectors.dial import DialPolicy
from certctl.connectors.registry import open_notifier
from certctl.core.events import Notice
from certctl.ledger import notify as put
from certctl.lifecycle import notify
from integration.api_house import Api, open_api
from peers import receivers
from peers.postgres import postgres

NOTICES = 10_000
_AT_ONCE = 200
ALLOW = {"CERTCTL_NOTIFICATION_ALLOW": "127.0.0.1"}


async def write(api: Api) -> float:
    """All notices; seconds."""
    ctx, began = api.house.ctx, time.perf_counter()
    for first in range(0, NOTICES, _AT_ONCE):
        async with ctx.database.begin("bench") as tx:
            for number in range(first, first + _AT_ONCE):
                said = {"type": "RenewalFailure", "certificate_id": "", "severity": "warning"}
                await put(tx, ctx.scope, ctx.now(), Notice(message=f"n {number}", dedup_key=f"bench/{number}", **said))
    return time.perf_counter() - began


async def fan_out(url: str) -> dict[str, Any]:
    """One database."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_api(Path(folder) / "data", url, **ALLOW) as api,
            receivers.receiver(receivers.anything, tls=False) as other,
        ):
            config = {"url": f"{other.url}/in", "secret": "of the bench"}
            await api.made("/api/v1/notification-channels", {"name": "hook", "type": "Webhook", "config": config})
            wrote = await write(api)
            began = time.perf_counter()
            while await notify.tick(api.house.ctx):
                pass
            took = time.perf_counter() - began
            ids = {got.headers["x-certctl-notification-id"] for got in other.got}
            if len(ids) != NOTICES or len(other.got) != NOTICES:
                raise RuntimeError(f"{len(other.got)} deliveries of {len(ids)} notices, not {NOTICES} of each once")
            return {
                "written_a_second": round(NOTICES / wrote),
                "routed_and_sent_a_second": round(NOTICES / took),
                "seconds": round(took, 1),
            }


async def limit() -> int:
    """Posts a second of the same notifier, ten at once, with no outbox behind."""
    async with receivers.receiver(receivers.anything, tls=False) as other:
        policy = DialPolicy(purpose="notify", allow_loopback=True)
        notifier = open_notifier("Webhook", {"url": f"{other.url}/in", "secret": "of the bench"}, policy)
        message = Message(id="n", type="T", severity="warning", subject="s", text="t", created_at=datetime.now(UTC))
        began = time.perf_counter()
        for _ in range(100):
            await asyncio.gather(*(notifier.send(message) for _ in range(10)))
        took = time.perf_counter() - began
        await notifier.close()
        return round(1000 / took)


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    asked = arguments(__doc__).parse_args(given)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    figures: dict[str, Any] = {"notices": NOTICES, "load_before": load(), "limit_posts_a_second": asyncio.run(limit())}
    if asked.only != "postgresql":
        figures["sqlite"] = asyncio.run(fan_out(""))
    if asked.only != "sqlite":
        with postgres() as server:
            figures["postgresql"] = asyncio.run(fan_out(server.new_database()))
    tell("alerts", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
