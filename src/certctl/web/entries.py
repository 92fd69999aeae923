"""The navigation, as data: what is built, under which heading, for whom."""

from __future__ import annotations

from msgspec import Struct

from certctl.store.stats import Summary
from certctl.web.words import gettext as _
from certctl.web.words import number


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the navigation."""

    path: str
    icon: str
    text: str
    permission: str
    count: str = ""
    waits: bool = False
    # pages beside it that it stands for, too
    beside: tuple[str, ...] = ()

    def holds(self, path: str) -> bool:
        """Whether a page belongs to it."""
        mine = (self.path, *self.beside)
        return path in mine or any(each != "/" and path.startswith(f"{each}/") for each in mine)


class Group(Struct, frozen=True, kw_only=True):
    """Entries under one heading."""

    heading: str
    entries: list[Entry]


def entries(counts: Summary | None) -> list[tuple[str, list[Entry]]]:
    """Every group with its entries; counts are those that the caller may see."""
    certificates = number(counts.total_certificates) if counts else ""
    return [
        (
            "",
            [
                Entry(path="/", icon="i-overview", text=_("Overview"), permission=""),
                Entry(
                    path="/certificates",
                    icon="i-cert",
                    text=_("Certificates"),
                    permission="cert.read",
                    count=certificates,
                ),
                Entry(path="/forecast", icon="i-down", text=_("Forecast"), permission="stats.read"),
            ],
        ),
        (_("Work"), _work(counts)),
        (_("Estate"), _estate(counts)),
        (_("Rules"), _rules()),
        (_("Record"), _record()),
    ]


def _work(counts: Summary | None) -> list[Entry]:
    waiting = counts.awaiting_approval_jobs if counts else 0
    live = counts.pending_jobs + counts.awaiting_csr_jobs + counts.running_jobs + waiting if counts else 0
    return [
        Entry(
            path="/jobs",
            icon="i-jobs",
            text=_("Jobs"),
            permission="job.read",
            count=number(live) if live else "",
        ),
        Entry(
            path="/approvals",
            icon="i-approve",
            text=_("Approvals"),
            permission="approval.read",
            count=number(waiting) if waiting else "",
            waits=True,
        ),
        Entry(path="/batches", icon="i-sort", text=_("Batches"), permission="job.read"),
        Entry(
            path="/notifications",
            icon="i-bell",
            text=_("Notifications"),
            permission="notification.read",
            beside=("/notification-channels",),
        ),
    ]


def _estate(counts: Summary | None) -> list[Entry]:
    agents = number(counts.total_agents) if counts else ""
    return [
        Entry(
            path="/agents",
            icon="i-agent",
            text=_("Agents"),
            permission="agent.read",
            count=agents,
            beside=("/agent-groups", "/enrol"),
        ),
        Entry(path="/targets", icon="i-target", text=_("Targets"), permission="target.read"),
        Entry(path="/health-checks", icon="i-found", text=_("Health checks"), permission="healthcheck.read"),
        Entry(path="/issuers", icon="i-issuer", text=_("Issuers"), permission="issuer.read"),
    ]


def _rules() -> list[Entry]:
    return [
        Entry(
            path="/profiles",
            icon="i-cert",
            text=_("Profiles"),
            permission="profile.read",
            beside=("/renewal-policies",),
        ),
        Entry(path="/policies", icon="i-rules", text=_("Policies"), permission="policy.read", beside=("/violations",)),
        Entry(path="/teams", icon="i-agent", text=_("Teams"), permission="team.read", beside=("/owners",)),
    ]


def _record() -> list[Entry]:
    return [
        Entry(path="/audit", icon="i-audit", text=_("Audit"), permission="audit.read"),
        Entry(path="/keys", icon="i-key", text=_("Keys"), permission="auth.key.list", beside=("/roles",)),
        Entry(path="/settings", icon="i-gear", text=_("Settings"), permission="", beside=("/views",)),
    ]
