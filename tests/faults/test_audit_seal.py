"""A server killed while it begins or moves the audit seal: after the next start every event is sealed once, and the seal holds."""

from __future__ import annotations

import contextlib
import time

import httpx
import pytest

from peers.fleet import fleet


@pytest.mark.parametrize(
    "point",
    ["commit.audit.tree.before", "commit.audit.tree.after", "commit.audit.seal.before#1", "commit.audit.seal.after#2"],
)
def test_sealing_goes_on_where_it_was_killed(tmp_path, point):
    with fleet(tmp_path) as town:
        server = town.spawn_server(point)
        # the first events are those of the installation; each team is one more
        last = [0.0]
        town.wait(lambda: _did(town, last) or server.poll() is not None, "it is killed there", 120)
        assert server.wait(60) == -9
        town.start_server()
        town.bootstrap()
        town.post("/api/v1/teams", {"id": "t-after", "name": "After"})
        town.wait(lambda: _sealed_whole(town), "each event is sealed, and once")


def _sealed_whole(town) -> bool:
    """Asked again when an event of the server's own (a first CRL) came between the two questions."""
    found = town.post("/api/v1/audit/verify")
    assert found["intact"] is True, found
    return found["size"] == town.get("/api/v1/audit?per_page=1")["total"]


def _did(town, last: list[float]) -> bool:
    """Make an event now and then, so that there is something to seal again: of strangers, ten a minute are noted."""
    with contextlib.suppress(AssertionError, OSError, httpx.HTTPError):  # it may die under our hands
        # no bootstrap here: its key would be lost with an answer that the death cuts off, and there is but one
        if town._ready() and time.monotonic() > last[-1] + 1:
            last.append(time.monotonic())
            town.call("GET", "/api/v1/certificates", key="ctk_nobody")
    return False
