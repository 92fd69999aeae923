"""The words of each kind that is configured: titles, what it is for, how one reads in a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from certctl.connectors.registry import target_config_schema
from certctl.core.errors import Unsupported
from certctl.web.marks import Mark
from certctl.web.words import gettext as _
from certctl.web.words import ngettext

Names = Mapping[str, str]


class Words(Struct, frozen=True, kw_only=True):
    """A kind in words. `row` gives the cells behind the name: texts by the names of what a record refers to."""

    many: str
    new: str
    lead: str
    empty: str
    heads: tuple[str, ...]
    row: Callable[[Any, Names], tuple[str, ...]]
    mark: Callable[[Any], Mark]
    # what deleting one means
    removal: str


def issuers() -> Words:
    """Who signs."""
    return Words(
        many=_("Issuers"),
        new=_("New issuer"),
        lead=_("Who signs: the built-in CA, and CAs elsewhere."),
        empty=_("An issuer is a CA that may be asked for certificates."),
        heads=(_("Kind"),),
        row=lambda issuer, _names: (issuer.type,),
        mark=_tested,
        removal=_("One that has issued, or that a certificate names, is kept."),
    )


def targets() -> Words:
    """Where certificates go."""
    return Words(
        many=_("Targets"),
        new=_("New target"),
        lead=_("The servers that take certificates; an agent on the host does the work."),
        empty=_("A target is one server on a host: its kind, its files, and where it is looked at for proof."),
        heads=(_("Kind"), _("Agent"), _("Served at")),
        row=lambda target, names: (
            target.type,
            names.get(target.agent_id, target.agent_id),
            str(target.config.get("endpoint", _usual_endpoint(target.type))),
        ),
        mark=_tested,
        removal=_("One that was ever used is retired instead: its history can still be read."),
    )


@lru_cache(maxsize=64)
def _usual_endpoint(type_: str) -> str:
    """Where a kind of server is looked at when nothing is said."""
    try:
        schema = target_config_schema(type_)
    except Unsupported:
        return ""
    (definition,) = (each for name, each in schema["$defs"].items() if schema["$ref"].endswith(f"/{name}"))
    return str(definition["properties"].get("endpoint", {}).get("default", ""))


def profiles() -> Words:
    """What may be asked for."""
    return Words(
        many=_("Profiles"),
        new=_("New profile"),
        lead=_("Which keys, names and lives are allowed; each certificate keeps one."),
        empty=_("A profile says which keys, names and lives are allowed."),
        heads=(_("Keys"), _("Longest life"), _("Two people")),
        row=lambda profile, _names: (_keys(profile), _life(profile.max_ttl_seconds), _yes(profile.requires_approval)),
        mark=_in_use,
        removal=_("One that a certificate still names is kept."),
    )


def renewal_policies() -> Words:
    """When."""
    return Words(
        many=_("Renewal"),
        new=_("New renewal policy"),
        lead=_("When certificates are renewed, how often that is tried, and when somebody is told."),
        empty=_("A renewal policy says how long before its end a certificate is renewed."),
        heads=(_("Renews"), _("Tries")),
        row=lambda policy, _names: (_window(policy), str(policy.max_retries)),
        mark=lambda policy: _on(policy.auto_renew, _("Renews by itself"), _("By hand only")),
        removal=_("One that a certificate still names is kept."),
    )


def policies() -> Words:
    """The organisation's own rules."""
    return Words(
        many=_("Policies"),
        new=_("New policy"),
        lead=_("Rules of your own: they refuse what may not be, and say what in the inventory breaks them."),
        empty=_(
            "A policy refuses requests, or records what breaks it. Try it against the inventory before you save it."
        ),
        heads=(_("Looks at"), _("Severity")),
        row=lambda rule, _names: (rule.type, rule.severity),
        mark=_in_use,
        removal=_("What was found by it goes with it; the audit log keeps both."),
    )


def agent_groups() -> Words:
    """Agents by what they are."""
    return Words(
        many=_("Groups"),
        new=_("New group"),
        lead=_("Agents that match all of its rules, and those enrolled into it."),
        empty=_("A group gathers agents by system, architecture, network or version."),
        heads=(_("System"), _("Architecture"), _("Network"), _("Version")),
        row=lambda group, _names: (group.match_os, group.match_architecture, group.match_ip_cidr, group.match_version),
        mark=_in_use,
        removal=_("One that agents were, or may still be, enrolled into is kept."),
    )


def channels() -> Words:
    """Where notifications go."""
    return Words(
        many=_("Channels"),
        new=_("New channel"),
        lead=_("Where people are told: mail, chat, whoever is on call."),
        empty=_("Without a channel nobody is told that a certificate ends: what should be sent reads skipped."),
        heads=(_("Kind"), _("Leads to"), _("Takes")),
        row=lambda channel, _names: (channel.type, channel.address, _takes(channel.min_severity)),
        mark=_tested,
        removal=_("What still waits for it is skipped, and says so. What was sent stays in the list."),
    )


def said_by_the_environment(record: Any) -> str:
    """Why it is not changed here; empty for one that is."""
    if record.source == "env":
        return _("The environment of the server sets this one up; it is changed there.")
    return ""


def _takes(severity: str) -> str:
    return {
        "informational": _("everything"),
        "warning": _("warnings, and what is critical"),
    }.get(severity, _("only what is critical"))


def teams() -> Words:
    """Who works together."""
    return Words(
        many=_("Teams"),
        new=_("New team"),
        lead=_("Owners who work together; permissions can be limited to a team's certificates."),
        empty=_("A team gathers owners; a key can be limited to what is a team's."),
        heads=(_("Description"),),
        row=lambda team, _names: (team.description,),
        mark=lambda _team: Mark("unk", "s-none", _("Team")),
        removal=_("One that an owner or a certificate still names is kept."),
    )


def owners() -> Words:
    """Who answers."""
    return Words(
        many=_("Owners"),
        new=_("New owner"),
        lead=_("Who answers for a certificate and is told about it."),
        empty=_("An owner is a person or a group that answers for certificates."),
        heads=(_("E-mail"), _("Team")),
        row=lambda owner, names: (owner.email, names.get(owner.team_id, owner.team_id)),
        mark=lambda _owner: Mark("unk", "s-none", _("Owner")),
        removal=_("One that a certificate still names is kept."),
    )


def _tested(record: Any) -> Mark:
    if getattr(record, "retired_at", None) is not None:
        return Mark("unk", "s-none", _("Retired"))
    if not record.enabled:
        return Mark("unk", "s-none", _("Not in use"))
    return {
        "success": Mark("ok", "s-ok", _("Tested")),
        "failed": Mark("warn", "s-warn", _("Test failed")),
    }.get(record.test_status, Mark("unk", "s-unknown", _("Not tested")))


def _in_use(record: Any) -> Mark:
    return _on(record.enabled, _("In use"), _("Not in use"))


def _on(flag: bool, yes: str, no: str) -> Mark:
    return Mark("unk", "s-ok", yes) if flag else Mark("unk", "s-none", no)


def _yes(flag: bool) -> str:
    return _("must agree") if flag else ""


def _keys(profile: Any) -> str:
    told = [f"{rule['algorithm']} {rule.get('min_size') or ''}".strip() for rule in profile.allowed_key_algorithms]
    return ", ".join(told) or _("any allowed here")


def _life(seconds: int) -> str:
    if not seconds:
        return _("no limit of its own")
    days, rest = divmod(seconds, 86_400)
    if days and not rest:
        return ngettext("{number} day", "{number} days", days).format(number=f"{days:,}")
    return _("{number} hours").format(number=f"{seconds / 3600:,.4g}")


def _window(policy: Any) -> str:
    if policy.renewal_window_fraction is not None:
        return _("with {part} of life left").format(part=f"{policy.renewal_window_fraction:.3g}")
    days = policy.renewal_window_days or 0
    return ngettext("{number} day before the end", "{number} days before the end", days).format(number=days)
