"""Channels: where notifications go. Configuration is the connector's own class; its secrets are sealed and never shown.

A secret goes to the address it was given for: whoever changes the address has to give it anew. Channels that the
environment names (CERTCTL_SMTP_HOST and the like) are kept as it says, and are not changed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from certctl.connectors.base.notifier import Addresses, Message
from certctl.connectors.registry import NOTIFIERS, check_notifier_config, find_entry, notifier_address, notifier_secrets
from certctl.control.changes import check_name, fault, note
from certctl.core.actor import SYSTEM, Actor
from certctl.core.errors import CertctlError, Conflict, Unsupported
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.notification import Channel, Tier
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.pki.seal import Sealer
from certctl.store import catalogue, outbox, sealed
from certctl.store.tx import Tx

FROM_ENVIRONMENT = "env"
# where secrets go: none of these changes beneath them
_WHERE = frozenset({"host", "port", "tls", "url", "ca_pem"})
# whoever is woken at night is woken for what is critical, unless somebody says otherwise
_PAGES = frozenset({"PagerDuty", "OpsGenie"})


class Wanted(Protocol):
    """A channel that the environment names. `config` holds its secrets, too."""

    @property
    def type(self) -> str:
        """Its kind."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """All of its configuration."""
        ...


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> Channel:
    """A new channel; `wanted` has the API's fields. Malformed for a configuration that cannot work."""
    kind = _kind(wanted.get("type", ""))
    scope.check_whole("a new channel")
    channel_id = check_id(wanted["id"]) if wanted.get("id") else new_id("ch")
    channel = _made(ctx, scope, channel_id, check_name(wanted.get("name", "")), kind, wanted.get("config", {}))
    channel = msgspec.structs.replace(
        channel,
        enabled=wanted.get("enabled", True),
        min_severity=_tier(wanted["min_severity"]) if wanted.get("min_severity") else channel.min_severity,
    )
    async with ctx.database.begin("config.channel") as tx:
        await sealed.require_key(tx, scope, ctx.sealer.key_id)
        await catalogue.insert(tx, scope, channel)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "notification_channel", channel.id)
    return channel


async def update(
    ctx: Context, scope: Scope, actor: Actor, channel_id: str, changes: dict[str, Any], expected: Expected = None
) -> Channel:
    """Change `name`, `config`, `enabled` or `min_severity`; absent fields stay, and so do secrets that are not given,
    unless the address changes.
    """
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    if "min_severity" in changes:
        changes = changes | {"min_severity": _tier(changes["min_severity"])}
    async with ctx.database.begin("config.channel") as tx:
        before = await catalogue.get(tx, scope, Channel, channel_id, expected=expected)
        _check_ours(before)
        if changes.pop("type", before.type).casefold() != before.type.casefold():
            raise fault("type_never_changes", f"channel {channel_id} is of type {before.type}", "type")
        fields = sorted(changes)
        if "config" in changes:
            await sealed.require_key(tx, scope, ctx.sealer.key_id)
            given = _with_kept_secrets(ctx, before, changes.pop("config"))
            changes |= _configured(ctx, before.id, before.type, given)
        await catalogue.change(tx, scope, Channel, channel_id, expected=expected, updated_at=ctx.now(), **changes)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "notification_channel", channel_id, fields)
        return await catalogue.get(tx, scope, Channel, channel_id)


async def delete(ctx: Context, scope: Scope, actor: Actor, channel_id: str, expected: Expected = None) -> None:
    """Delete a channel; what waits for it is skipped, and says so."""
    async with ctx.database.begin("config.channel") as tx:
        _check_ours(await catalogue.get(tx, scope, Channel, channel_id, expected=expected))
        await catalogue.remove(tx, scope, Channel, channel_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "notification_channel", channel_id)


async def test(ctx: Context, scope: Scope, actor: Actor, channel_id: str) -> str:
    """Send a message that says it is a test; a sentence on success, the connector's error otherwise; both kept."""
    async with ctx.database.read() as tx:
        channel = await catalogue.get(tx, scope, Channel, channel_id)
    now = ctx.now()
    message = Message(
        id=new_id("notif"),
        type="Test",
        severity=Tier.INFORMATIONAL,
        subject="certctl: a test of this channel",
        text=f"{actor.id} tests the channel {channel.name}. Nothing is wrong.",
        created_at=now,
    )
    try:
        notifier = ctx.open_notifier(channel)
        try:
            to = notifier.to("") if isinstance(notifier, Addresses) else ()
            if isinstance(notifier, Addresses) and not to:
                raise Conflict(f"{channel.name} names no recipients: a test has nobody to go to")
            remark = await notifier.send(msgspec.structs.replace(message, recipients=to))
            if message.incident or channel.type in _PAGES:  # nobody is left paged by a test
                await notifier.send(msgspec.structs.replace(message, resolves=True))
        finally:
            await notifier.close()
    except CertctlError:
        await _tested(ctx, scope, actor, channel_id, "failed")
        raise
    await _tested(ctx, scope, actor, channel_id, "success")
    return remark or f"{channel.address} took the message {message.id}"


def usual_severity(kind: str) -> Tier:
    """The least that a kind of channel takes unless somebody says otherwise."""
    return Tier.CRITICAL if kind in _PAGES else Tier.INFORMATIONAL


def open_config(sealer: Sealer, channel: Channel) -> dict[str, Any]:
    """The whole configuration, secrets too."""
    return channel.config | opened_secrets(sealer, channel)


def host_of(channel: Channel) -> str:
    """The host that its address names."""
    return str(urlsplit(channel.address if "://" in channel.address else f"//{channel.address}").hostname or "")


def opened_secrets(sealer: Sealer, channel: Channel) -> dict[str, str]:
    """The secrets of a channel by field; TrustError when they were changed or belong to another row."""
    if channel.sealed_config is None:
        return {}
    return msgspec.json.decode(sealer.unseal(channel.sealed_config, sealed_as(channel.id)), type=dict[str, str])


def sealed_as(channel_id: str) -> str:
    """What a channel's sealed secrets are bound to."""
    return f"certctl/notification_channels/{channel_id}"


async def keep_environment(ctx: Context, wanted: Sequence[Wanted]) -> None:
    """Make the channels of the environment what it says; those it names no longer go. Written only when it changes."""
    async with ctx.database.read() as tx:
        known = {each.id: each for each in await outbox.channels(tx, ctx.scope) if each.source == FROM_ENVIRONMENT}
    made = {
        f"ch-env-{each.type.lower()}": _made(
            ctx, ctx.scope, f"ch-env-{each.type.lower()}", f"{each.type} (environment)", each.type, each.config,
            source=FROM_ENVIRONMENT,
        )
        for each in wanted
    }  # fmt: skip
    changed = [each for each in made.values() if not _is_so(ctx, known.get(each.id), each)]
    gone = [channel_id for channel_id in known if channel_id not in made]
    if not changed and not gone:
        return
    async with ctx.database.begin("config.channel.env") as tx:
        await sealed.require_key(tx, ctx.scope, ctx.sealer.key_id)
        for each in changed:
            await _put(tx, ctx, each, is_new=each.id not in known)
        for channel_id in gone:
            await outbox.remove_channel(tx, ctx.scope, channel_id)
            await note(tx, ctx, SYSTEM, EventType.CONFIG_DELETED, "notification_channel", channel_id)


async def _put(tx: Tx, ctx: Context, channel: Channel, *, is_new: bool) -> None:
    await outbox.put_channel(tx, ctx.scope, channel)
    kind = EventType.CONFIG_CREATED if is_new else EventType.CONFIG_UPDATED
    await note(tx, ctx, SYSTEM, kind, "notification_channel", channel.id, () if is_new else ("config",))


def _is_so(ctx: Context, known: Channel | None, wanted: Channel) -> bool:
    return known is not None and open_config(ctx.sealer, known) == open_config(ctx.sealer, wanted) and known.enabled


def _made(
    ctx: Context,
    scope: Scope,
    channel_id: str,
    name: str,
    kind: str,
    config: Mapping[str, Any],
    source: str = "database",
) -> Channel:
    now: datetime = ctx.now()
    return Channel(
        tenant_id=scope.tenant_id,
        id=channel_id,
        name=name,
        type=kind,
        enabled=True,
        min_severity=usual_severity(kind),
        source=source,
        created_at=now,
        updated_at=now,
        **_configured(ctx, channel_id, kind, config),
    )


def _configured(ctx: Context, channel_id: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a configuration: what may be shown, and what is sealed. Raises Malformed."""
    given = {name: value for name, value in config.items() if value is not None}
    check_notifier_config(kind, given)
    secrets = {name: given[name] for name in notifier_secrets(kind) if given.get(name)}
    return {
        "config": {name: value for name, value in given.items() if name not in notifier_secrets(kind)},
        "secrets": sorted(secrets),
        "sealed_config": ctx.sealer.seal(msgspec.json.encode(secrets), sealed_as(channel_id)) if secrets else None,
        "address": notifier_address(kind, given),
        "test_status": "untested",
        "last_tested_at": None,
    }


def _with_kept_secrets(ctx: Context, before: Channel, given: dict[str, Any]) -> dict[str, Any]:
    """A secret that is not named stays, one that is empty or null is taken away."""
    named = set(given) & set(notifier_secrets(before.type))
    kept = {name: value for name, value in opened_secrets(ctx.sealer, before).items() if name not in named}
    if kept and any(given.get(name) != before.config.get(name) for name in _WHERE):
        message = f"the address changes: give {', '.join(sorted(kept))} anew, they were given for {before.address}"
        raise fault("secret_belongs_to_its_address", message, "config")
    if kept and "url" in named:
        message = f"the address changes: give {', '.join(sorted(kept))} anew, they were given for {before.address}"
        raise fault("secret_belongs_to_its_address", message, "config")
    return given | kept


async def _tested(ctx: Context, scope: Scope, actor: Actor, channel_id: str, status: str) -> None:
    async with ctx.database.begin("config.channel") as tx:
        await catalogue.change(tx, scope, Channel, channel_id, test_status=status, last_tested_at=ctx.now())
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "notification_channel", channel_id, ("test_status",))


def _check_ours(channel: Channel) -> None:
    if channel.source == FROM_ENVIRONMENT:
        raise Conflict(f"{channel.name} is what the environment of the server says; change it there")


def _kind(text: str) -> str:
    try:
        return find_entry(NOTIFIERS, text, "channel").kind
    except Unsupported as error:
        raise fault("unknown_type", error.message, "type") from error


def _tier(text: str) -> str:
    if text not in set(Tier):
        raise fault("unknown_tier", f"min_severity is one of {', '.join(Tier)}", "min_severity")
    return text
