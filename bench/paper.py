"""From measured costs to ten million certificates and a million agents: what a report says of scale on paper. Pure.

Each figure is computed from what was measured (`Measured`) and from what is assumed (`Assumed`); both are told. Must
never hold a figure of its own that somebody measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

_DAY, _YEAR = 86_400, 365 * 86_400


@dataclass(frozen=True)
class Assumed:
    """The size that is asked about, and how the world around it behaves."""

    certificates: int = 10_000_000
    agents: int = 1_000_000
    lives_days: tuple[int, ...] = (47, 6)
    # the policy's default: renewed when a third of the life is left
    lived_when_renewed: float = 2 / 3
    # as the agent does (ADR 27)
    poll_seconds: int = 25
    beat_seconds: int = 30
    # of a core; the rest is for what comes at once
    usable: float = 0.7
    cdn_caches: int = 200
    # an hour as answers are given today, and four days as public CAs give them
    ocsp_validity_hours: tuple[int, ...] = (1, 96)
    crl_fetched_every_seconds: int = 3600
    revoked_share_a_year: float = 0.01
    audit_kept_days: int = 365


_MEANING = {
    "certificates": "certificates in use",
    "agents": "agents",
    "lives_days": "lives, in days",
    "lived_when_renewed": "share of its life after which a certificate is renewed",
    "poll_seconds": "an agent's long poll, in seconds",
    "beat_seconds": "an agent's heartbeat, in seconds",
    "usable": "share of a core that is planned with",
    "cdn_caches": "caches of a CDN that ask us, each for itself",
    "ocsp_validity_hours": "how long an OCSP answer is good, in hours; a cache asks again after half of it",
    "crl_fetched_every_seconds": "how often each cache fetches the CRL, in seconds",
    "revoked_share_a_year": "share of what is issued in a year that is revoked",
    "audit_kept_days": "how long audit rows are kept in the database, in days",
}


@dataclass(frozen=True)
class Measured:
    """What was measured, as the chapters need it: on one machine, of so many cores."""

    cores: int
    certificates: int
    bytes_a_certificate: float
    rows_a_renewal: float
    bytes_a_renewal: float
    audit_rows_a_renewal: float
    server_ms_a_renewal: float
    database_ms_a_renewal: float
    server_ms_a_call: float
    kib_an_agent: float
    ocsp_a_second: float
    audit_appends_a_second: float
    sealed_a_second: float
    ticked_a_second: float | None
    crl_bytes_an_entry: float | None

    @classmethod
    def read(
        cls,
        *,
        largest: int,
        inventory: Mapping[int, Mapping[str, Any]],
        footprint: Mapping[str, Any],
        ladder: Mapping[str, Any],
        ocsp: Mapping[str, Any],
        audit: Mapping[str, Any],
        crl: Mapping[str, Any] | None,
    ) -> Measured:
        """From the results as they were written."""
        rung = max(ladder["rungs"], key=lambda each: float(each["agents_measured"]))
        grown = rung["server_memory_mib"] - rung["server_memory_mib_when_empty"]
        ticks = [figures["renewal_tick"]["per_second"] for figures in inventory.values() if "renewal_tick" in figures]
        made = list(_crls(crl)) if crl else []
        full = max(made, key=lambda each: float(each["entries"])) if made else None
        audited = sum(rows for name, rows in footprint["rows"].items() if name.startswith("audit"))
        return cls(
            cores=int(ocsp["machine"]["cores"]),
            certificates=largest,
            bytes_a_certificate=inventory[largest]["database_mib"] * 2**20 / largest,
            rows_a_renewal=footprint["rows_per_renewal"],
            bytes_a_renewal=footprint["bytes_per_renewal"],
            audit_rows_a_renewal=audited,
            server_ms_a_renewal=footprint["server_cpu_ms_per_renewal"],
            database_ms_a_renewal=footprint["database_cpu_ms_per_renewal"],
            server_ms_a_call=rung["server_cpu_ms_per_call"],
            kib_an_agent=grown * 1024 / rung["agents_measured"],
            ocsp_a_second=ocsp["postgresql"]["kept"]["per_second"],
            audit_appends_a_second=audit["postgresql"]["appends_per_second_10_a_commit"],
            sealed_a_second=1e6 / audit["postgresql"]["sealing_a_million_seconds"],
            ticked_a_second=ticks[-1] if ticks else None,
            crl_bytes_an_entry=full["crl_mb"] * 1e6 / full["entries"] if full else None,
        )


def _crls(said: Any) -> Iterator[Mapping[str, Any]]:
    """Every CRL that a result tells of."""
    if isinstance(said, Mapping):
        if "entries" in said and "crl_mb" in said:
            yield said
        for each in said.values():
            yield from _crls(each)
    elif isinstance(said, Sequence) and not isinstance(said, str):
        for each in said:
            yield from _crls(each)


@dataclass(frozen=True)
class Demand:
    """What one life of certificates asks for."""

    life_days: int
    renewals_a_second: float
    renewals_a_year: float

    @classmethod
    def of(cls, assumed: Assumed, life_days: int) -> Demand:
        """Renewals spread evenly over the time between two of one certificate."""
        a_second = assumed.certificates / (life_days * assumed.lived_when_renewed * _DAY)
        return cls(life_days, a_second, a_second * _YEAR)


def chapters(measured: Measured, assumed: Assumed | None = None) -> list[str]:
    """The chapters on paper, as Markdown."""
    assumed = assumed or Assumed()
    demands = [Demand.of(assumed, life) for life in assumed.lives_days]
    head = (
        f"## On paper: {assumed.certificates:,} certificates, {assumed.agents:,} agents\n\n"
        "Computed from the results above, in a straight line; nothing of this size was run. Assumed:"
    )
    return [
        head,
        _assumptions(assumed),
        "### What it asks for",
        _asked(measured, assumed, demands),
        "### CRL and OCSP through a CDN",
        _cdn(measured, assumed, demands),
        "### What becomes the bottleneck, and when",
        _bottlenecks(measured, assumed, demands),
    ]


def _assumptions(assumed: Assumed) -> str:
    rows = [(_MEANING[each.name], _plain(getattr(assumed, each.name))) for each in fields(assumed)]
    return _table(("assumed", ""), rows)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_plain(each) for each in value)
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _calls_a_second(assumed: Assumed) -> float:
    return assumed.agents * (1 / assumed.poll_seconds + 1 / assumed.beat_seconds)


def _asked(measured: Measured, assumed: Assumed, demands: Sequence[Demand]) -> str:
    calls = _calls_a_second(assumed)
    rest = assumed.certificates * measured.bytes_a_certificate / 1e12
    rows: list[tuple[str, ...]] = [
        ("renewals a second", *(f"{each.renewals_a_second:,.1f}" for each in demands)),
        ("renewals a year", *(f"{each.renewals_a_year / 1e6:,.0f} million" for each in demands)),
        ("calls of idle agents a second", *(f"{calls:,.0f}" for _ in demands)),
        (
            "rows a year",
            *(f"{each.renewals_a_year * measured.rows_a_renewal / 1e9:,.1f} thousand million" for each in demands),
        ),
        ("inventory at rest, TB", *(f"{rest:,.2f}" for _ in demands)),
        (
            "more a year while nothing is put away, TB",
            *(f"{each.renewals_a_year * measured.bytes_a_renewal / 1e12:,.1f}" for each in demands),
        ),
        (
            "audit rows that are kept, million",
            *(f"{_audit_rows(measured, assumed, each) / 1e6:,.0f}" for each in demands),
        ),
        ("memory of the servers for kept connections, GiB", *(f"{_memory(measured, assumed):,.0f}" for _ in demands)),
    ]
    found = _table(("", *(f"{each.life_days} days" for each in demands)), rows)
    return (
        f"One renewal was measured to leave {measured.rows_a_renewal:,.1f} rows and "
        f"{measured.bytes_a_renewal / 1024:,.1f} KiB, indexes and audit log included.\n\n{found}"
    )


def _audit_rows(measured: Measured, assumed: Assumed, demand: Demand) -> float:
    return demand.renewals_a_second * measured.audit_rows_a_renewal * assumed.audit_kept_days * _DAY


def _memory(measured: Measured, assumed: Assumed) -> float:
    return assumed.agents * measured.kib_an_agent / 2**20


def _cdn(measured: Measured, assumed: Assumed, demands: Sequence[Demand]) -> str:
    rows = []
    for hours in assumed.ocsp_validity_hours:
        asked = assumed.certificates * assumed.cdn_caches / (hours * 3600 / 2)
        machines = asked / (measured.ocsp_a_second * assumed.usable)
        rows.append((f"{hours:,} h", f"{asked:,.0f}", f"{machines:,.1f}"))
    told = (
        f"Each of {assumed.cdn_caches:,} caches asks for each certificate's OCSP answer once in half of its validity, "
        f"however many clients there are. One machine of {measured.cores} cores was measured to give "
        f"{measured.ocsp_a_second:,.0f} kept answers a second; such machines share nothing but the database."
    )
    lines = [told, _table(("an answer is good for", "requests a second that reach us", "machines like this"), rows)]
    if measured.crl_bytes_an_entry is None:
        lines.append("The size of a CRL is not measured yet: `bench/run.py crl --keep`.")
        return "\n\n".join(lines)
    sizes = []
    for demand in demands:
        entries = demand.renewals_a_year * assumed.revoked_share_a_year * demand.life_days / 365
        size = entries * measured.crl_bytes_an_entry
        traffic = size * assumed.cdn_caches / assumed.crl_fetched_every_seconds
        sizes.append((f"{demand.life_days} days", f"{entries:,.0f}", f"{size / 1e6:,.2f}", f"{traffic / 1e6:,.2f}"))
    heads = ("life", "revoked and not yet ended", "full CRL, MB", "to all caches, MB a second")
    lines.append(
        f"An entry of a CRL was measured to take {measured.crl_bytes_an_entry:,.1f} bytes; what has ended leaves it, "
        "so that short lives make short CRLs:\n\n" + _table(heads, sizes)
    )
    return "\n\n".join(lines)


def _bottlenecks(measured: Measured, assumed: Assumed, demands: Sequence[Demand]) -> str:
    heads = ("", "measured here", *(f"{each.life_days} days, in machines like this" for each in demands))
    rows = []
    for name, told, needs in sorted(
        _resources(measured, assumed, demands), key=lambda each: max(each[2]), reverse=True
    ):
        rows.append((name, told, *(f"{each:,.2f}" for each in needs)))
    first = rows[0][0]
    ordered = _table(heads, rows)
    alone = _one_database(measured, assumed)
    return (
        f"How many machines of {measured.cores} cores each part would fill, the greatest first. Servers are added side "
        "by side; the database, and what one process does for all, are not. The greatest is "
        f"**{first}**.\n\n{ordered}\n\n{alone}"
    )


def _resources(measured: Measured, assumed: Assumed, demands: Sequence[Demand]) -> list[tuple[str, str, list[float]]]:
    """What is filled, by how much: name, what was measured, machines (or shares of the one) for each life."""
    cores = measured.cores * assumed.usable
    calls = _calls_a_second(assumed) * measured.server_ms_a_call / 1000 / cores
    found = [
        ("servers: idle agents", f"{measured.server_ms_a_call:.2f} ms of CPU a call", [calls for _ in demands]),
        (
            "servers: renewals",
            f"{measured.server_ms_a_renewal:.0f} ms of CPU each",
            [each.renewals_a_second * measured.server_ms_a_renewal / 1000 / cores for each in demands],
        ),
        (
            "the database: renewals",
            f"{measured.database_ms_a_renewal:.0f} ms of CPU each",
            [each.renewals_a_second * measured.database_ms_a_renewal / 1000 / cores for each in demands],
        ),
        (
            "the audit log's appends",
            f"{measured.audit_appends_a_second:,.0f} a second",
            [_audited(measured, each) / (measured.audit_appends_a_second * assumed.usable) for each in demands],
        ),
        (
            "the audit log's seal (one process for all)",
            f"{measured.sealed_a_second:,.0f} a second",
            [_audited(measured, each) / measured.sealed_a_second for each in demands],
        ),
    ]
    if measured.ticked_a_second:
        ticked = [each.renewals_a_second / measured.ticked_a_second for each in demands]
        found.append(("the renewal tick (one process for all)", f"{measured.ticked_a_second:,.0f} a second", ticked))
    return found


def _audited(measured: Measured, demand: Demand) -> float:
    return demand.renewals_a_second * measured.audit_rows_a_renewal


def _one_database(measured: Measured, assumed: Assumed) -> str:
    """How far one machine like this goes, certificates alone."""
    rows = []
    for life in assumed.lives_days:
        one = Demand.of(assumed, life).renewals_a_second / assumed.certificates
        by_database = measured.cores * assumed.usable / (one * measured.database_ms_a_renewal / 1000)
        by_server = measured.cores * assumed.usable / (one * measured.server_ms_a_renewal / 1000)
        by_tick = measured.ticked_a_second / one if measured.ticked_a_second else None
        told = f"{by_tick / 1e6:,.1f} million" if by_tick else "not measured"
        rows.append((f"{life} days", f"{by_database / 1e6:,.1f} million", f"{by_server / 1e6:,.1f} million", told))
    calls = measured.cores * assumed.usable * 1000 / measured.server_ms_a_call
    agents = calls / (1 / assumed.poll_seconds + 1 / assumed.beat_seconds)
    heads = ("life", "the database on one such machine", "servers on one such machine", "one renewal tick")
    return (
        f"How many certificates fill each, by their renewals alone:\n\n{_table(heads, rows)}\n\n"
        f"And servers on one such machine are filled by {agents:,.0f} idle agents."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
