"""A server killed between handing a notification over and writing that down: the next one sends it again, under the same id."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from peers.fleet import fleet


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes every notification and remembers its id."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append(body)  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_what_was_sent_and_not_written_down_is_sent_again_under_its_id(tmp_path, hook):
    with fleet(tmp_path) as town:
        town._extra |= {
            "CERTCTL_WEBHOOK_URL": f"http://127.0.0.1:{hook.server_address[1]}/",
            "CERTCTL_STEP_LEASE": "2s",
        }
        server = town.spawn_server("notify.sent")
        town.wait(town._ready, "it is ready", 60)
        town.bootstrap()
        rule = {"name": "env", "type": "AllowedEnvironments", "config": {"allowed": ["prod"]}, "severity": "Warning"}
        town.post("/api/v1/policies", rule)
        # what breaks the rule is told; the server dies with the message handed over
        body = {"id": "mc-told", "common_name": "told.example", "environment": "prod"}
        town.post("/api/v1/certificates", body)
        town.call("PUT", "/api/v1/certificates/mc-told", {"environment": "playground"})
        assert server.wait(60) == -9
        assert len(hook.got) >= 1
        town.start_server()
        town.wait(lambda: len(hook.got) >= 2, "it is sent again", 60)
        town.wait(
            lambda: {row["status"] for row in town.get("/api/v1/notifications")["data"]} == {"sent"},
            "all is settled",
            60,
        )
        first = hook.got[0]["event_id"]
        rows = town.get("/api/v1/notifications")["data"]
        assert [got["event_id"] for got in hook.got].count(first) == 2
        assert {got["event_id"] for got in hook.got} == {row["id"] for row in rows}
