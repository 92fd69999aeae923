"""What stands beside what, as tabs: pages of one subject that share an entry of the navigation."""

from __future__ import annotations

from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

Tab = tuple[str, str, bool]


def tabs_of(request: WebRequest, path: str) -> list[Tab]:
    """The pages beside this one that the caller may open: word, address, whether it is this one."""
    for group in _groups():
        if path in {each for _word, each, _permission in group}:
            return [(word, each, each == path) for word, each, permission in group if request.may(permission)]
    return []


def _groups() -> list[list[tuple[str, str, str]]]:
    return [
        [(_("Agents"), "/agents", "agent.read"), (_("Groups"), "/agent-groups", "agent.read")],
        [
            (_("Profiles"), "/profiles", "profile.read"),
            (_("Renewal"), "/renewal-policies", "policy.read"),
        ],
        [(_("Policies"), "/policies", "policy.read"), (_("Violations"), "/violations", "policy.read")],
        [
            (_("Notifications"), "/notifications", "notification.read"),
            (_("Channels"), "/notification-channels", "notification.read"),
        ],
        [(_("Teams"), "/teams", "team.read"), (_("Owners"), "/owners", "owner.read")],
        [
            (_("Keys"), "/keys", "auth.key.list"),
            (_("ACME keys"), "/external-keys", "auth.key.list"),
            (_("Roles"), "/roles", "auth.role.list"),
        ],
    ]
