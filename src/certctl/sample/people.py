"""Who owns what in the sample fleet: teams, people, applications, places. Names of RFC 2606 domains alone."""

from __future__ import annotations

from msgspec import Struct


class TeamPlan(Struct, frozen=True):
    """A team, its zone below example.com, its people and what it runs."""

    id: str
    name: str
    zone: str
    people: tuple[str, ...]
    applications: tuple[str, ...]
    weight: int


TEAMS = (
    TeamPlan(
        "team-payments", "Payments", "pay", ("Anna Keller", "Tomás Ruiz", "Priya Nair"),
        ("checkout", "ledger", "payouts", "fraud-scoring", "card-vault", "settlement", "refunds"), 5,
    ),
    TeamPlan(
        "team-identity", "Identity", "id", ("Jonas Lindqvist", "Mei Tanaka"),
        ("login", "sso", "directory", "scim", "passkeys", "consent"), 4,
    ),
    TeamPlan(
        "team-storefront", "Storefront", "shop", ("Chloé Martin", "Samuel Osei", "Ewa Nowak"),
        ("www", "catalogue", "basket", "search", "images", "recommendations", "reviews", "promotions"), 7,
    ),
    TeamPlan(
        "team-data", "Data platform", "data", ("Lucía Fernández", "Arjun Mehta"),
        ("warehouse", "kafka", "airflow", "lakehouse", "metrics", "features", "notebooks"), 6,
    ),
    TeamPlan(
        "team-messaging", "Messaging", "mail", ("Henrik Olsen", "Fatima Zahra"),
        ("mx", "imap", "submission", "lists", "push", "sms-gateway"), 3,
    ),
    TeamPlan(
        "team-edge", "Edge", "edge", ("Marek Dvořák", "Noor Haddad", "Liam Walsh"),
        ("gateway", "cdn-origin", "waf", "ddos-scrub", "geo", "turn"), 6,
    ),
    TeamPlan(
        "team-internal", "Internal tools", "corp", ("Ingrid Bauer", "Daniel Kim"),
        ("wiki", "git", "ci", "registry", "tickets", "vpn", "printers", "timesheets"), 5,
    ),
    TeamPlan(
        "team-devices", "Devices", "iot", ("Sofia Rossi", "Kwame Boateng"),
        ("telemetry", "firmware", "provisioning", "meters", "kiosks"), 4,
    ),
)  # fmt: skip

REGIONS = ("fra", "ams", "iad", "sin", "gru")
ENVIRONMENTS = ("production",) * 6 + ("staging",) * 2 + ("test",)
# what stands on a host, by what the host is for: the kind of target and the port it serves
ROLES = (
    ("web", "NGINX", 443),
    ("web", "NGINX", 443),
    ("web", "NGINX", 8443),
    ("lb", "HAProxy", 443),
    ("app", "Apache", 443),
    ("app", "Caddy", 443),
    ("mail", "Postfix", 25),
    ("mail", "Dovecot", 143),
    ("svc", "Files", 8443),
)


def owner_id(name: str) -> str:
    """The id of a person."""
    plain = name.lower().translate(str.maketrans("áéíóúčćěłńñøöřšýžç", "aeiouccelnnoorsyzc"))
    return "owner-" + "".join(each if each.isascii() and each.isalnum() else "-" for each in plain)


def email(name: str) -> str:
    """Their address."""
    return owner_id(name).removeprefix("owner-").replace("-", ".") + "@example.com"
