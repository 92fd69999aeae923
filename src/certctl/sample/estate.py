"""What the sample fleet is configured with, made through the doors that people use: teams, profiles, rules, CAs.

Each is made once: what is there already is left alone, so that a fill that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from certctl.authority.hierarchy import CaSubject
from certctl.control import hierarchy, owners, policies, profiles, teams
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import CaCertificate, Owner, PolicyRule, Profile, Team
from certctl.lifecycle.context import Context
from certctl.sample import MARK
from certctl.sample.people import TEAMS, email, owner_id
from certctl.sample.plan import Plan
from certctl.sample.rows import ISSUER
from certctl.store import authority, catalogue

PEOPLE = Actor(id=MARK, type=ActorType.API_KEY, request_id=MARK)
TWO_PEOPLE = "prof-two-people"
_DAY = 86400
_EC = [{"algorithm": "ECDSA", "min_size": 256}]

PROFILES: tuple[dict[str, Any], ...] = (
    {
        "id": "prof-47", "name": "Public web, 47 days", "allowed_key_algorithms": _EC, "max_ttl_seconds": 47 * _DAY,
        "description": "What the CA/Browser Forum asks for from March 2029, today.",
    },
    {
        "id": "prof-rsa", "name": "Old clients, RSA", "max_ttl_seconds": 90 * _DAY,
        "allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 2048}],
        "description": "For clients that know no elliptic curves.",
    },
    {
        "id": "prof-service", "name": "Services, mutual TLS", "allowed_key_algorithms": _EC,
        "max_ttl_seconds": 365 * _DAY, "allowed_ekus": ["serverAuth", "clientAuth"],
        "description": "Inside alone: both ends of a connection show one.",
    },
    {
        "id": TWO_PEOPLE, "name": "Card data, two people", "allowed_key_algorithms": _EC,
        "max_ttl_seconds": 90 * _DAY, "requires_approval": True,
        "description": "Where card numbers pass, somebody else than who asks has to say yes.",
    },
)  # fmt: skip
RULES: tuple[dict[str, Any], ...] = (
    {
        "id": "pr-owner", "name": "Each certificate has an owner", "type": "RequiredMetadata", "severity": "Warning",
        "config": {"required_keys": ["owner"]},
    },
    {
        "id": "pr-names", "name": "Names end in example.com", "type": "AllowedDomains", "severity": "Error",
        "config": {"allowed_domains": ["example.com", "**.example.com"]},
    },
)  # fmt: skip
# the generations of the built-in CA: how long ago each took over, its name and key
_GENERATIONS = (
    (timedelta(days=150), "Issuing CA 2 (RSA)", "RSA-3072"),
    (timedelta(days=104), "Issuing CA 3", "ECDSA-P256"),
)


def generations(plan: Plan) -> list[tuple[Any, str, str]]:
    """When, name and key of each, in order."""
    return [(plan.now - ago, name, algorithm) for ago, name, algorithm in _GENERATIONS]


async def furnish(ctx: Context) -> None:
    """Teams, people and profiles."""
    for team in TEAMS:
        if not await has(ctx, Team, team.id):
            await teams.create(ctx, ctx.scope, PEOPLE, {"id": team.id, "name": team.name})
        for name in team.people:
            if not await has(ctx, Owner, owner_id(name)):
                wanted = {"id": owner_id(name), "name": name, "email": email(name), "team_id": team.id}
                await owners.create(ctx, ctx.scope, PEOPLE, wanted)
    for profile in PROFILES:
        if not await has(ctx, Profile, profile["id"]):
            await profiles.create(ctx, ctx.scope, PEOPLE, dict(profile))


async def rule(ctx: Context) -> None:
    """The organisation's rules."""
    for wanted in RULES:
        if not await has(ctx, PolicyRule, wanted["id"]):
            await policies.create(ctx, ctx.scope, PEOPLE, dict(wanted))


async def take_over(ctx: Context, name: str, algorithm: str) -> None:
    """A new generation of the built-in CA, which issues from now on."""
    async with ctx.database.read() as tx:
        known = await authority.ca_certificates_of(tx, ctx.scope, ISSUER)
    if name not in {each.name for each in known}:
        subject = CaSubject(common_name=f"Example Corp {name}", organization=("Example Corp",))
        wanted = hierarchy.NewIntermediate(name=name, subject=subject, algorithm=algorithm)
        await hierarchy.create(ctx, ctx.scope, PEOPLE, ISSUER, wanted)


async def issuing(ctx: Context) -> CaCertificate:
    """The generation that issues now."""
    async with ctx.database.read() as tx:
        return next(ca for ca in await authority.ca_certificates_of(tx, ctx.scope, ISSUER) if ca.issues_leaves)


async def known_profiles(ctx: Context) -> Mapping[str, Profile]:
    """The profiles of the fleet by id."""
    async with ctx.database.read() as tx:
        ids = ("prof-default", *(str(each["id"]) for each in PROFILES))
        return {each: await catalogue.get(tx, ctx.scope, Profile, each) for each in ids}


async def has(ctx: Context, kind: type[msgspec.Struct], record_id: str) -> bool:
    """Whether a record of this kind is there."""
    async with ctx.database.read() as tx:
        return await catalogue.find(tx, ctx.scope, kind, id=record_id) is not None
