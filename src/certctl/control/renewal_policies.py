"""Renewal policies: when certificates are renewed and when somebody is told. One that is still named is not deleted."""

from __future__ import annotations

from typing import Any

from certctl.control.changes import check_name, fault, note
from certctl.control.usage import Sees, check_unused
from certctl.core.actor import Actor
from certctl.core.catalogue import Profile, RenewalPolicy
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle import renew
from certctl.lifecycle.context import Context
from certctl.policy.calendar import read_calendar
from certctl.store import catalogue, schema
from certctl.store.tx import Tx

DEFAULT_WINDOW_DAYS = 30
_TIERS = ("informational", "warning", "critical")
_CHANNELS = ("Email", "Webhook", "Slack", "Teams", "PagerDuty", "OpsGenie")


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> RenewalPolicy:
    """A new policy; `wanted` has the API's fields. Conflict when its id or name is taken."""
    now = ctx.now()
    days, fraction = wanted.get("renewal_window_days"), wanted.get("renewal_window_fraction")
    policy = RenewalPolicy(
        tenant_id=scope.tenant_id,
        id=check_id(wanted["id"]) if wanted.get("id") else new_id("rp"),
        name=check_name(wanted.get("name", "")),
        renewal_window_days=DEFAULT_WINDOW_DAYS if days is None and fraction is None else days,
        renewal_window_fraction=fraction,
        auto_renew=wanted.get("auto_renew", True),
        max_retries=wanted.get("max_retries", 3),
        retry_interval_seconds=wanted.get("retry_interval_seconds", 3600),
        alert_thresholds_days=wanted.get("alert_thresholds_days", [30, 14, 7, 0]),
        alert_channels=wanted.get("alert_channels", {}),
        alert_severity_map=wanted.get("alert_severity_map", {}),
        certificate_profile_id=wanted.get("certificate_profile_id", ""),
        renewal_windows=wanted.get("renewal_windows", []),
        freezes=wanted.get("freezes", []),
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.renewal_policy") as tx:
        await _check(tx, scope, policy)
        await catalogue.insert(tx, scope, policy)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "renewal_policy", policy.id)
    return policy


async def update(
    ctx: Context, scope: Scope, actor: Actor, policy_id: str, changes: dict[str, Any], expected: Expected = None
) -> RenewalPolicy:
    """Change fields; absent ones stay. A window in days replaces a fraction, and the other way round.

    Each certificate takes it up when it is next looked at.
    """
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    if "renewal_window_days" in changes and "renewal_window_fraction" not in changes:
        changes = changes | {"renewal_window_fraction": None}
    if "renewal_window_fraction" in changes and "renewal_window_days" not in changes:
        changes = changes | {"renewal_window_days": None}
    async with ctx.database.begin("config.renewal_policy") as tx:
        await catalogue.change(tx, scope, RenewalPolicy, policy_id, expected=expected, updated_at=ctx.now(), **changes)
        policy = await catalogue.get(tx, scope, RenewalPolicy, policy_id)
        await _check(tx, scope, policy)
        await renew.policy_changed(tx, ctx, policy_id)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "renewal_policy", policy_id, changes)
        return policy


async def delete(
    ctx: Context, scope: Scope, actor: Actor, policy_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete a policy no certificate names; Conflict otherwise."""
    async with ctx.database.begin("config.renewal_policy") as tx:
        await catalogue.get(tx, scope, RenewalPolicy, policy_id, expected=expected)
        named_in = {"certificates": ("cert.read", schema.certificates.c.renewal_policy_id)}
        await check_unused(tx, scope, "renewal policy", policy_id, named_in, sees)
        await catalogue.remove(tx, scope, RenewalPolicy, policy_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "renewal_policy", policy_id)


async def _check(tx: Tx, scope: Scope, policy: RenewalPolicy) -> None:
    read_calendar(policy.renewal_windows, policy.freezes)
    if policy.renewal_window_days is not None and policy.renewal_window_fraction is not None:
        message = "give renewal_window_days or renewal_window_fraction, not both"
        raise fault("two_windows", message, "renewal_window_fraction")
    if policy.renewal_window_days is None and policy.renewal_window_fraction is None:
        message = "a policy needs renewal_window_days or renewal_window_fraction"
        raise fault("no_window", message, "renewal_window_days")
    unknown_tiers = {*policy.alert_channels, *policy.alert_severity_map.values()} - set(_TIERS)
    if unknown_tiers:
        raise fault("unknown_tier", f"tiers are {', '.join(_TIERS)}; not {sorted(unknown_tiers)[0]}", "alert_channels")
    unknown = {channel for channels in policy.alert_channels.values() for channel in channels} - set(_CHANNELS)
    if unknown:
        message = f"channels are {', '.join(_CHANNELS)}; not {sorted(unknown)[0]}"
        raise fault("unknown_channel", message, "alert_channels")
    profile_id = policy.certificate_profile_id
    if profile_id and await catalogue.find(tx, scope, Profile, id=profile_id) is None:
        raise fault("unknown_reference", f"no profile {profile_id}", "certificate_profile_id")
