"""What is configured by forms, as data: the API's own body, its listing, its permissions, its calls, its words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from certctl.client.models.agent_groups import AgentGroupWrite
from certctl.client.models.issuers import IssuerWrite
from certctl.client.models.notifications import ChannelWrite
from certctl.client.models.people import OwnerWrite, TeamWrite
from certctl.client.models.policies import PolicyWrite
from certctl.client.models.profiles import ProfileWrite
from certctl.client.models.renewal_policies import RenewalPolicyWrite
from certctl.client.models.targets import TargetWrite
from certctl.connectors import registry
from certctl.connectors.base.config import REDACTED
from certctl.control import (
    agent_groups,
    channels,
    issuers,
    owners,
    policies,
    profile_edits,
    profiles,
    renewal_policies,
    targets,
    teams,
)
from certctl.core.catalogue import AgentGroup, IssuerRecord, Owner, PolicyRule, Profile, RenewalPolicy, Team
from certctl.core.notification import Channel, Tier
from certctl.core.target import AgentRecord, TargetRecord
from certctl.policy.rules.configs import PolicySeverity, PolicyType, config_schema
from certctl.store import act_listings, listings
from certctl.store.lists import Listing
from certctl.web.configure import trials, words_of
from certctl.web.configure.fields import Label
from certctl.web.configure.trials import Try
from certctl.web.configure.words_of import Words
from certctl.web.words import gettext as _

Option = tuple[str, str]
# gets the context, scope, actor, id, the expected versions and how far the caller sees what may still name it
Delete = Callable[..., Awaitable[None]]
Test = Callable[..., Awaitable[tuple[bool, str]]]


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of thing. `path` is its page; `types` are its kinds with a config of their own."""

    path: str
    record: type[Any]
    body: type[Struct]
    listing: Listing[Any]
    read: str
    edit: str
    delete: str
    create: Callable[..., Awaitable[Any]]
    update: Callable[..., Awaitable[Any]]
    remove: Delete
    words: Callable[[], Words]
    # the fields that stand first; the others under "More"
    front: frozenset[str] | None = None
    # fields that name another record: its kind, the permission to read it
    references: Mapping[str, tuple[type[Any], str]] = {}
    choices: Callable[[], Mapping[str, Sequence[Option]]] = dict
    types: Callable[[], Sequence[Option]] | None = None
    schema: Callable[[str], dict[str, Any]] | None = None
    test: Test | None = None
    trial: Try | None = None
    # what a new one starts with, where the API's own default is not an empty field
    starts: Mapping[str, Any] = MappingProxyType({"enabled": True})
    starts_as: Callable[[str], Mapping[str, Any]] = lambda _type: MappingProxyType({})
    # why one is not changed here, though its kind is
    fixed: Callable[[Any], str] = lambda _record: ""
    needed: frozenset[str] = frozenset({"name"})
    # fields of which the API judges all when one changes
    together: frozenset[str] = frozenset()
    # the filter of the inventory that shows what depends on one
    inventory: str = ""
    # what people call one
    named: Callable[[Any], str] = lambda record: str(record.name)
    # better words for its fields than those of every kind
    labels: Callable[[], Mapping[str, Label]] = dict
    # fields that a link to the empty form may fill in, beside its references
    given: frozenset[str] = frozenset()
    # how one is read, where the catalogue does not have it
    load: Callable[[Any, Any, str], Awaitable[Any]] | None = None
    # one has a page of its own beside its form
    apart: bool = False
    # fields of one that something else says: not asked in its form
    settled: Callable[[Any], frozenset[str]] = lambda _record: frozenset()


async def _test_issuer(*given: Any) -> tuple[bool, str]:
    return True, await issuers.test(*given)


async def _test_channel(*given: Any) -> tuple[bool, str]:
    return True, await channels.test(*given)


async def _edit_channel(ctx: Any, scope: Any, actor: Any, channel_id: str, changes: dict[str, Any], *more: Any) -> Any:
    """A secret that the form does not name is kept by not being named."""
    if "config" in changes:
        kept = {name: value for name, value in changes["config"].items() if value != REDACTED}
        changes = changes | {"config": kept}
    return await channels.update(ctx, scope, actor, channel_id, changes, *more)


class Waits(Struct, frozen=True):
    """A change that is made once somebody else approves it."""

    approval_id: str


async def _edit_profile(*given: Any) -> Any:
    profile, waits = await profile_edits.update(*given)
    return profile if waits is None else Waits(waits.id)


def without_sees(delete: Callable[..., Awaitable[None]]) -> Delete:
    """Of what nothing names, or whose deletion says so itself."""

    async def remove(*given: Any, sees: Any) -> None:  # noqa: ARG001 - these do not look who names them
        await delete(*given)

    return remove


def _servers() -> list[Option]:
    return [(entry.kind, entry.kind) for entry in registry.TARGETS]


def _cas() -> list[Option]:
    """The built-in CA is there already; every other kind may be set up."""
    kinds = [entry.kind for entry in registry.ISSUERS]
    return [(kind, kind) for kind in kinds if kind.casefold() not in issuers.BUILT_IN_KINDS]


def _rules() -> list[Option]:
    told = {
        PolicyType.ALLOWED_ISSUERS: _("Only some issuers may be asked"),
        PolicyType.ALLOWED_DOMAINS: _("Only some names may be asked for"),
        PolicyType.REQUIRED_METADATA: _("Something must be said of each certificate"),
        PolicyType.ALLOWED_ENVIRONMENTS: _("Only some environments"),
        PolicyType.RENEWAL_LEAD_TIME: _("Renewed early enough"),
        PolicyType.CERTIFICATE_LIFETIME: _("No longer life than this"),
    }
    return [(str(kind), text) for kind, text in told.items()]


def _notifiers() -> list[Option]:
    return [(entry.kind, entry.kind) for entry in registry.NOTIFIERS]


def _of_channels() -> dict[str, Sequence[Option]]:
    return {
        "min_severity": [
            (str(Tier.INFORMATIONAL), _("Everything")),
            (str(Tier.WARNING), _("Warnings, and what is critical")),
            (str(Tier.CRITICAL), _("Only what is critical")),
        ],
        "config.tls": [
            ("starttls", "STARTTLS"),
            ("implicit", _("TLS from the first byte")),
            ("none", _("No TLS")),
        ],
    }


def _of_profiles() -> dict[str, Sequence[Option]]:
    return {
        "acme_auth_mode": [
            ("", _("Not through ACME")),
            ("challenge", _("Each name is proven by a challenge")),
            ("trust_authenticated", _("Accounts with an external key are trusted")),
        ],
        "allowed_key_algorithms.algorithm": [
            ("", _("none")),
            ("ECDSA", "ECDSA"),
            ("RSA", "RSA"),
            ("Ed25519", "Ed25519"),
        ],
    }


def _of_rules() -> dict[str, Sequence[Option]]:
    told = {
        PolicySeverity.WARNING: _("Warning: recorded"),
        PolicySeverity.ERROR: _("Error: refuses"),
        PolicySeverity.CRITICAL: _("Critical: refuses"),
    }
    return {"severity": [(str(severity), text) for severity, text in told.items()]}


KINDS: tuple[Kind, ...] = (
    Kind(
        path="/issuers",
        record=IssuerRecord,
        body=IssuerWrite,
        listing=listings.ISSUERS,
        read="issuer.read",
        edit="issuer.edit",
        delete="issuer.delete",
        create=issuers.create,
        update=issuers.update,
        remove=issuers.delete,
        words=words_of.issuers,
        types=_cas,
        inventory="issuer_id",
        schema=registry.issuer_config_schema,
        test=_test_issuer,
    ),
    Kind(
        path="/targets",
        record=TargetRecord,
        body=TargetWrite,
        listing=listings.TARGETS,
        read="target.read",
        edit="target.edit",
        delete="target.delete",
        create=targets.create,
        update=targets.update,
        remove=without_sees(targets.delete),
        words=words_of.targets,
        front=frozenset({"cert_path", "key_path", "pem_path", "endpoint", "starttls"}),
        references={"agent_id": (AgentRecord, "agent.read")},
        types=_servers,
        needed=frozenset({"name", "agent_id"}),
        inventory="target_id",
        schema=registry.target_config_schema,
        test=targets.test,
    ),
    Kind(
        path="/profiles",
        record=Profile,
        body=ProfileWrite,
        listing=listings.PROFILES,
        read="profile.read",
        edit="profile.edit",
        delete="profile.delete",
        create=profiles.create,
        update=_edit_profile,
        remove=profiles.delete,
        words=words_of.profiles,
        front=frozenset(
            {
                *("name", "description", "allowed_key_algorithms", "max_ttl_seconds", "required_san_patterns"),
                *("requires_approval", "enabled"),
            }
        ),
        references={"acme_issuer_id": (IssuerRecord, "issuer.read")},
        choices=_of_profiles,
        starts={
            "enabled": True,
            "allowed_key_algorithms": [{"algorithm": "ECDSA", "min_size": 256}, {"algorithm": "RSA", "min_size": 2048}],
            "allowed_ekus": ["serverAuth"],
            "approvals_required": 1,
        },
        inventory="profile_id",
    ),
    Kind(
        path="/renewal-policies",
        record=RenewalPolicy,
        body=RenewalPolicyWrite,
        listing=listings.RENEWAL_POLICIES,
        read="policy.read",
        edit="policy.edit",
        delete="policy.delete",
        create=renewal_policies.create,
        update=renewal_policies.update,
        remove=renewal_policies.delete,
        words=words_of.renewal_policies,
        front=frozenset({"name", "renewal_window_days", "renewal_window_fraction", "auto_renew"}),
        references={"certificate_profile_id": (Profile, "profile.read")},
        starts={
            "renewal_window_days": renewal_policies.DEFAULT_WINDOW_DAYS,
            "auto_renew": True,
            "max_retries": 3,
            "retry_interval_seconds": 3600,
            "alert_thresholds_days": [30, 14, 7, 0],
        },
        together=frozenset({"renewal_window_days", "renewal_window_fraction"}),
    ),
    Kind(
        path="/policies",
        record=PolicyRule,
        body=PolicyWrite,
        listing=listings.POLICIES,
        read="policy.read",
        edit="policy.edit",
        delete="policy.delete",
        create=policies.create,
        update=policies.update,
        remove=without_sees(policies.delete),
        words=words_of.policies,
        references={"config.allowed_issuer_ids": (IssuerRecord, "issuer.read")},
        choices=_of_rules,
        types=_rules,
        schema=config_schema,
        starts={"enabled": True, "severity": str(PolicySeverity.WARNING)},
        trial=trials.policy,
    ),
    Kind(
        path="/agent-groups",
        record=AgentGroup,
        body=AgentGroupWrite,
        listing=listings.AGENT_GROUPS,
        read="agent.read",
        edit="agent.edit",
        delete="agent.edit",
        create=agent_groups.create,
        update=agent_groups.update,
        remove=agent_groups.delete,
        words=words_of.agent_groups,
        trial=trials.group,
    ),
    Kind(
        path="/notification-channels",
        record=Channel,
        body=ChannelWrite,
        listing=act_listings.CHANNELS,
        read="notification.read",
        edit="notification.edit",
        delete="notification.edit",
        create=channels.create,
        update=_edit_channel,
        remove=without_sees(channels.delete),
        words=words_of.channels,
        front=frozenset(
            {
                *("host", "port", "tls", "username", "password", "from_address", "recipients", "to_owner"),
                *("url", "secret", "webhook_url", "routing_key", "api_key"),
            }
        ),
        choices=_of_channels,
        types=_notifiers,
        schema=registry.notifier_config_schema,
        test=_test_channel,
        starts_as=lambda type_: {"min_severity": channels.usual_severity(type_)},
        fixed=words_of.said_by_the_environment,
    ),
    Kind(
        path="/teams",
        record=Team,
        body=TeamWrite,
        listing=listings.TEAMS,
        read="team.read",
        edit="team.edit",
        delete="team.delete",
        create=teams.create,
        update=teams.update,
        remove=teams.delete,
        words=words_of.teams,
        inventory="team_id",
    ),
    Kind(
        path="/owners",
        record=Owner,
        body=OwnerWrite,
        listing=listings.OWNERS,
        read="owner.read",
        edit="owner.edit",
        delete="owner.delete",
        create=owners.create,
        update=owners.update,
        remove=owners.delete,
        words=words_of.owners,
        references={"team_id": (Team, "team.read")},
    ),
)
