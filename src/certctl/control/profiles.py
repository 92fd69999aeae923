"""Profiles: the rules a certificate must keep. Every edit raises the version that decisions bind to.

What could never be kept (unknown key kinds, unreadable patterns) is refused when it is written, not when it is used.
"""

from __future__ import annotations

from typing import Any

import msgspec

from certctl.control.changes import check_name, fault, note
from certctl.control.usage import Sees, check_unused
from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.errors import Conflict, Malformed
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.lifecycle.facts import profile_facts
from certctl.pki.csr_attributes import attribute_oid
from certctl.pki.ekus import eku_oid
from certctl.policy.approval import needs_approval
from certctl.policy.issuance import choose_key_algorithm
from certctl.policy.patterns import check_pattern
from certctl.store import catalogue, schema
from certctl.store.tx import Tx

_LEAST_BITS = {"RSA": 2048, "ECDSA": 256, "Ed25519": 0}
_SHORT_LIVED_BELOW = 3600
_ACME_MODES = ("", "trust_authenticated", "challenge")


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> Profile:
    """A new profile; `wanted` has the API's fields. Conflict when its id or name is taken."""
    scope.check_whole("a new profile")
    now = ctx.now()
    blank: dict[str, Any] = {
        "description": "",
        "allowed_key_algorithms": [{"algorithm": "ECDSA", "min_size": 256}, {"algorithm": "RSA", "min_size": 2048}],
        "max_ttl_seconds": 0,
        "allowed_ekus": ["serverAuth"],
        "required_san_patterns": [],
        "spiffe_uri_pattern": "",
        "allow_short_lived": False,
        "must_staple": False,
        "required_csr_attributes": [],
        "acme_auth_mode": "",
        "acme_issuer_id": "",
        "acme_profiles": [],
        "requires_approval": False,
        "approvals_required": 1,
        "approvers": [],
        "enabled": True,
    }
    values = blank | wanted
    profile = Profile(
        **values
        | {
            "tenant_id": scope.tenant_id,
            "id": check_id(wanted["id"]) if wanted.get("id") else new_id("prof"),
            "name": check_name(wanted.get("name", "")),
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
    )
    _check(profile)
    async with ctx.database.begin("config.profile") as tx:
        await _check_references(tx, scope, profile)
        await catalogue.insert(tx, scope, profile)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "profile", profile.id)
    return profile


async def apply(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, before: Profile, changes: dict[str, Any], expected: Expected
) -> Profile:
    """Change fields; absent ones stay. What is approved already is judged again by the new rules before issue.

    Whether the profile wants a second person for this is asked before (`control.profile_edits`).
    """
    after = await check_changes(tx, ctx, scope, before, changes)
    changes = {name: getattr(after, name) for name in changes}
    version = {"version": after.version, "updated_at": after.updated_at}
    await catalogue.change(tx, scope, Profile, before.id, expected=expected, **changes, **version)
    await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "profile", before.id, changes)
    return await catalogue.get(tx, scope, Profile, before.id)


async def check_changes(tx: Tx, ctx: Context, scope: Scope, before: Profile, changes: dict[str, Any]) -> Profile:
    """The profile as it would be; Malformed when nothing could keep it."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    after = msgspec.structs.replace(before, **changes, version=before.version + 1, updated_at=ctx.now())
    _check(after)
    if {"acme_issuer_id", "acme_profiles"} & changes.keys():
        await _check_references(tx, scope, after)
    return after


async def delete(
    ctx: Context, scope: Scope, actor: Actor, profile_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete a profile nothing names; Conflict otherwise."""
    async with ctx.database.begin("config.profile") as tx:
        found = await catalogue.get(tx, scope, Profile, profile_id, expected=expected)
        if needs_approval(found):
            message = (
                f"profile {profile_id} wants a second person, also for its end: let requires_approval be lifted first"
            )
            raise Conflict(message)
        named_in = {
            "certificates": ("cert.read", schema.certificates.c.certificate_profile_id),
            "renewal_policies": ("policy.read", schema.renewal_policies.c.certificate_profile_id),
        }
        await check_unused(tx, scope, "profile", profile_id, named_in, sees)
        await catalogue.remove(tx, scope, Profile, profile_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "profile", profile_id)


async def _check_references(tx: Tx, scope: Scope, profile: Profile) -> None:
    if profile.acme_issuer_id and await catalogue.find(tx, scope, IssuerRecord, id=profile.acme_issuer_id) is None:
        raise fault("unknown_reference", f"no issuer {profile.acme_issuer_id}", "acme_issuer_id")
    known = await catalogue.many(tx, scope, Profile, tuple(profile.acme_profiles))
    for index, offered in enumerate(profile.acme_profiles):
        if offered == profile.id or offered not in known or offered in profile.acme_profiles[:index]:
            message = f"acme_profiles are other profiles, each once; {offered} is none"
            raise fault("unknown_reference", message, f"acme_profiles[{index}]")


def _check(profile: Profile) -> None:
    named = profile.approvers
    if len(set(named)) != len(named) or not all(named):
        raise fault("approver_is_named_twice", "approvers are different names of people", "approvers")
    if named and len(named) < profile.approvals_required:
        message = f"{profile.approvals_required} people must approve, but only {len(named)} are named"
        raise fault("too_few_approvers", message, "approvers")
    if profile.acme_auth_mode not in _ACME_MODES:
        raise fault("unknown_acme_mode", "acme_auth_mode is trust_authenticated or challenge", "acme_auth_mode")
    if profile.allow_short_lived and not 0 < profile.max_ttl_seconds < _SHORT_LIVED_BELOW:
        message = f"allow_short_lived needs a max_ttl_seconds below {_SHORT_LIVED_BELOW}"
        raise fault("short_lived_needs_short_ttl", message, "max_ttl_seconds")
    _check_keys(profile)
    for index, pattern in enumerate(profile.required_san_patterns):
        _named(check_pattern, pattern, f"required_san_patterns[{index}]")
    if profile.spiffe_uri_pattern:
        _named(check_pattern, profile.spiffe_uri_pattern, "spiffe_uri_pattern")
    for index, name in enumerate(profile.required_csr_attributes):
        _named(attribute_oid, name, f"required_csr_attributes[{index}]")
    for index, name in enumerate(profile.allowed_ekus):
        _named(eku_oid, name, f"allowed_ekus[{index}]")


def _check_keys(profile: Profile) -> None:
    for index, rule in enumerate(profile.allowed_key_algorithms):
        least = _LEAST_BITS.get(rule["algorithm"])
        field = f"allowed_key_algorithms[{index}]"
        if least is None:
            raise fault("unknown_key_algorithm", f"algorithm is one of {', '.join(_LEAST_BITS)}", f"{field}.algorithm")
        if rule.get("min_size", 0) < least:
            message = f"min_size of {rule['algorithm']} is at least {least} bits"
            raise fault("key_rule_is_too_weak", message, f"{field}.min_size")
    choose_key_algorithm(profile_facts(profile))


def _named(check: Any, value: str, field: str) -> None:
    try:
        check(value)
    except Malformed as error:
        raise fault("rule_cannot_be_read", f"{field}: {error.message}", field) from error
