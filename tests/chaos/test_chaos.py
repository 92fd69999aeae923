"""Half a minute of chaos in a small town; twenty minutes with fifty agents are `make bench BENCH='chaos --minutes 20'`."""

from __future__ import annotations

import json

import pytest

from chaos.run import Log, Wish, run


@pytest.mark.timeout(400)
def test_half_a_minute_of_fire_loses_doubles_and_paints_nothing(tmp_path):
    """Six agents, two servers, one PostgreSQL: kills, stand-stills, partitions, and every green doubted by s_client."""
    wish = Wish(seconds=25, agents=6, nginx=2, seed=20261126, strike_every=1.2, ask_every=0.8, settle=200, at_least=8)
    log = Log(tmp_path / "log", loud=False)
    result = run(wish, log.say, tmp_path / "town")
    assert not result["faults"], json.dumps(result["faults"], indent=1) + (tmp_path / "log").read_text()
    assert sum(result["struck"].values()) >= wish.at_least, "there was hardly any fire"
    assert result["promised_jobs"] >= wish.at_least
    assert result["audits"]["green_and_served"] >= wish.agents
    assert result["versions"] > wish.agents
