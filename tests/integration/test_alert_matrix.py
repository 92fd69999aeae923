"""The policy's matrix through the whole outbox: each threshold by its tier to just the kinds of channels of that tier."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta

import pytest

from certctl.lifecycle import notify, renew
from integration.api_house import open_api
from integration.test_expiry_alerts import served

KINDS = {
    "Email": {"host": "mail.example", "port": 25, "tls": "none", "from_address": "a@corp.example"},
    "Webhook": {"url": "https://hook.example/in"},
    "Slack": {"webhook_url": "https://slack.example/in"},
    "Teams": {"webhook_url": "https://teams.example/in"},
    "PagerDuty": {"routing_key": "k" * 32},
    "OpsGenie": {"api_key": "k" * 32},
}
TIERS = ("informational", "warning", "critical")
THRESHOLDS = (60, 30, 14, 7, 0)


class Taker:
    """A channel that remembers what it got."""

    def __init__(self, kind: str, got: list[tuple[str, str, str]]) -> None:
        self._kind, self._got = kind, got

    async def send(self, message) -> str:
        self._got.append((message.certificate_id, self._kind, message.severity))
        return ""

    async def close(self) -> None:
        """Nothing is held."""


class MailTaker(Taker):
    def to(self, owner: str) -> tuple[str, ...]:
        return (owner or "ops@corp.example",)


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def matrices():
    """Three policies in which each tier meets each kind once within and twice without, and each threshold each tier."""
    kinds = list(KINDS)
    for turn in range(3):
        ways = {tier: kinds[2 * ((place + turn) % 3) :][:2] for place, tier in enumerate(TIERS)}
        levels = {str(days): TIERS[(place + turn) % 3] for place, days in enumerate(THRESHOLDS)}
        yield ways, levels


async def test_each_threshold_goes_by_its_tier_to_the_channels_of_that_tier(api):
    for kind, config in KINDS.items():
        await api.made("/api/v1/notification-channels", {"name": kind, "type": kind, "config": config})
    agent = await api.agent()
    plans = dict(enumerate(matrices()))
    for number, (ways, levels) in plans.items():
        policy = {
            "id": f"rp-{number}",
            "name": f"matrix {number}",
            "auto_renew": False,
            "alert_thresholds_days": list(THRESHOLDS),
            "alert_channels": ways,
            "alert_severity_map": levels,
        }
        made = await api.made("/api/v1/renewal-policies", policy)
        assert (made["alert_channels"], made["alert_severity_map"]) == (ways, levels)
        body = {
            "id": f"mc-{number}",
            "common_name": f"n{number}.example",
            "validity_seconds": 80 * 86400,
            "renewal_policy_id": policy["id"],
            "target_ids": [await api.target(agent, f"site-{number}")],
        }
        await api.made("/api/v1/certificates", body)
    await served(api, agent)
    got: list[tuple[str, str, str]] = []

    def opened(channel):
        return (MailTaker if channel.type == "Email" else Taker)(channel.type, got)

    ctx = dataclasses.replace(api.house.ctx, open_notifier=opened)
    while await notify.tick(ctx):  # what issuance told of
        pass
    ends = api.clock.moment + timedelta(days=80)
    met = set()
    for days in THRESHOLDS:
        got.clear()
        api.clock.moment = ends - timedelta(days=days) + timedelta(minutes=5)
        for _ in range(2):  # once, however often it is looked
            while await renew.tick(ctx):
                pass
            while await notify.tick(ctx):
                pass
        expected = [
            (f"mc-{number}", kind, levels[str(days)])
            for number, (ways, levels) in plans.items()
            for kind in ways[levels[str(days)]]
        ]
        alerts = [each for each in got if each[0].startswith("mc-")]
        assert sorted(alerts) == sorted(expected), days
        met |= {(kind, severity) for _, kind, severity in alerts}
    assert met == set(itertools.product(KINDS, TIERS))
