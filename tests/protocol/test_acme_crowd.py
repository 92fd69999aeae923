"""Exactly once under a crowd: 2,000 finalizes, 200 in flight, two replicas on PostgreSQL, one of them killed half way.

How the crowd speaks and what is judged is in `acme_crowd`; `make bench BENCH=acme` does it with 100,000.
"""

from __future__ import annotations

import pytest

from protocol.acme_crowd import exactly_once

ORDERS, EACH, IN_FLIGHT = 25, 80, 200


@pytest.mark.real
@pytest.mark.timeout(600)
def test_two_thousand_finalizes_and_a_killed_replica_give_each_order_one_certificate(tmp_path, postgres_server):
    seen = exactly_once(tmp_path, postgres_server, orders=ORDERS, each=EACH, clients=IN_FLIGHT)
    assert sum(seen.answers.values()) == ORDERS * EACH == 2000
