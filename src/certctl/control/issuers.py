"""Issuers: the CAs that may be asked. One that a certificate or a version still names is not deleted.

Configuration is decoded by the connector's own class: unknown fields and wrong types are refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from certctl.connectors.base.issuer import DryRun, Inspects, RunsDry
from certctl.connectors.registry import ISSUERS, find_entry
from certctl.control.changes import check_name, fault, note
from certctl.control.installation import BUILT_IN_ISSUER
from certctl.control.issuer_secrets import seal_config
from certctl.control.usage import Sees, check_unused
from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import CertctlError, Conflict, ConnectorError, Unsupported
from certctl.core.events import Event, EventType
from certctl.core.ids import check_id, new_id
from certctl.core.names import Name
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import catalogue, schema, sealed

# kinds whose CA is made by the installation itself: a second one would have no CA behind it
BUILT_IN_KINDS = {"local", "genericca"}
_MOST_TOLD = 20


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> IssuerRecord:
    """A new issuer; `wanted` has the API's fields. Malformed for a kind or configuration that cannot work."""
    kind = _kind(wanted.get("type", ""))
    if kind.casefold() in BUILT_IN_KINDS:
        message = f"the built-in CA is there already as {BUILT_IN_ISSUER}; a further one is not supported yet"
        raise fault("one_built_in_ca", message, "type")
    scope.check_whole("a new issuer")
    now = ctx.now()
    issuer_id = check_id(wanted["id"]) if wanted.get("id") else new_id("iss")
    config, sealed_config = seal_config(ctx.sealer, kind, issuer_id, wanted.get("config", {}))
    issuer = IssuerRecord(
        tenant_id=scope.tenant_id,
        id=issuer_id,
        name=check_name(wanted.get("name", "")),
        type=kind,
        config=config,
        sealed_config=sealed_config,
        enabled=wanted.get("enabled", True),
        last_tested_at=None,
        test_status="untested",
        source="database",
        hierarchy_mode="",
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.issuer") as tx:
        await sealed.require_key(tx, scope, ctx.sealer.key_id)
        await catalogue.insert(tx, scope, issuer)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "issuer", issuer.id)
    return issuer


async def update(
    ctx: Context, scope: Scope, actor: Actor, issuer_id: str, changes: dict[str, Any], expected: Expected = None
) -> IssuerRecord:
    """Change `name`, `config` or `enabled`; absent fields stay. A type never changes."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    async with ctx.database.begin("config.issuer") as tx:
        before = await catalogue.get(tx, scope, IssuerRecord, issuer_id, expected=expected)
        if changes.pop("type", before.type).casefold() != before.type.casefold():
            raise fault("type_never_changes", f"issuer {issuer_id} is of type {before.type}", "type")
        if "config" in changes:
            await sealed.require_key(tx, scope, ctx.sealer.key_id)
            config, sealed_config = seal_config(ctx.sealer, before.type, issuer_id, changes["config"], before)
            _check_shards_grow(before.config, config)
            changes |= {"config": config, "sealed_config": sealed_config}
            changes |= {"test_status": "untested", "last_tested_at": None}
        await catalogue.change(tx, scope, IssuerRecord, issuer_id, expected=expected, updated_at=ctx.now(), **changes)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "issuer", issuer_id, changes)
        return await catalogue.get(tx, scope, IssuerRecord, issuer_id)


def _check_shards_grow(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Certificates that name a shard are told by it as long as they live."""
    least = before.get("crl_shards", 1)
    if after.get("crl_shards", 1) < least:
        raise fault("shards_never_shrink", f"certificates name {least} shards: there can be more", "config.crl_shards")


async def delete(
    ctx: Context, scope: Scope, actor: Actor, issuer_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete an issuer that has issued nothing and that nothing names; Conflict otherwise."""
    async with ctx.database.begin("config.issuer") as tx:
        await catalogue.get(tx, scope, IssuerRecord, issuer_id, expected=expected)
        named_in = {
            "certificates": ("cert.read", schema.certificates.c.issuer_id),
            "versions": ("cert.read", schema.versions.c.issuer_id),
        }
        await check_unused(tx, scope, "issuer", issuer_id, named_in, sees)
        if issuer_id == BUILT_IN_ISSUER:
            raise Conflict("the built-in CA is not deleted; disable it (enabled=false) to issue nothing from it")
        await catalogue.remove(tx, scope, IssuerRecord, issuer_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "issuer", issuer_id)


async def test(ctx: Context, scope: Scope, actor: Actor, issuer_id: str) -> str:
    """Try the issuer's set-up without issuing; a sentence on success, the connector's error otherwise; both kept."""
    async with ctx.database.read() as tx:
        record = await catalogue.get(tx, scope, IssuerRecord, issuer_id)
    try:
        issuer = await ctx.open_issuer(record)
        said = await issuer.inspect() if isinstance(issuer, Inspects) else "the configuration is complete"
    except CertctlError:
        await _tested(ctx, scope, actor, issuer_id, "failed")
        raise
    await _tested(ctx, scope, actor, issuer_id, "success")
    return said


async def dry_run(
    ctx: Context, scope: Scope, actor: Actor, issuer_id: str, names: Sequence[Name], limit: timedelta
) -> DryRun:
    """Have names issued where the issuer's CA has a place for trials, and keep nothing of it but that it was done.

    Raises NotFound, and Unsupported where there is no such place.
    """
    async with ctx.database.read() as tx:
        record = await catalogue.get(tx, scope, IssuerRecord, issuer_id)
    ran = await (await _running_dry(ctx, record)).dry_run(names, ctx.now(), limit)
    details = {
        "directory_url": ran.directory_url,
        "names": [name.value for name in names][:_MOST_TOLD],
        "passed": ran.passed,
        "last_step": ran.steps[-1].step if ran.steps else "",
    }
    event = Event(
        type=EventType.ISSUER_DRY_RUN, subject_type="issuer", subject_id=issuer_id, actor=actor, details=details
    )
    async with ctx.database.begin("issuer.dry_run") as tx:
        await append(tx, ctx.scope, ctx.now(), event)
    return ran


async def trial_place(ctx: Context, record: IssuerRecord) -> tuple[str, str]:
    """Where a dry run of this issuer would be, and why there is no such place: one of them is empty."""
    try:
        return (await _running_dry(ctx, record)).trial_place(), ""
    except ConnectorError as error:
        return "", error.message


async def _running_dry(ctx: Context, record: IssuerRecord) -> RunsDry:
    issuer = await ctx.open_issuer(record)
    if not isinstance(issuer, RunsDry):
        raise Unsupported(f"a dry run is not supported for an issuer of type {record.type}")
    return issuer


async def _tested(ctx: Context, scope: Scope, actor: Actor, issuer_id: str, status: str) -> None:
    async with ctx.database.begin("config.issuer") as tx:
        await catalogue.change(tx, scope, IssuerRecord, issuer_id, test_status=status, last_tested_at=ctx.now())
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "issuer", issuer_id, ("test_status",))


def _kind(text: str) -> str:
    try:
        return find_entry(ISSUERS, text, "issuer").kind
    except Unsupported as error:
        raise fault("unknown_type", error.message, "type") from error
