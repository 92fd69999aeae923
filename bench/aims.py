"""The aims of this project's scale, each with what was measured of it: the table at the head of docs/operator/scale.md.

Each figure is read from the newest committed result of its bench. What was measured smaller than its aim is reckoned
in a straight line, and says so; what was not measured says so too. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Said = Mapping[str, Any]
# a figure, and how it was come by where it is not the thing itself
Figure = tuple[float, str]
_AGENTS = 50_000


@dataclass(frozen=True)
class Aim:
    """`least`: it is to be over the bound rather than under it. Without a bound it is told and not judged."""

    part: str
    what: str
    bound: float | None
    unit: str
    read: Callable[[Said], Figure | None]
    least: bool = False
    places: int = 0

    def wanted(self) -> str:
        """The aim in words."""
        if self.bound is None:
            return "-"
        return f"{'over' if self.least else 'under'} {self.bound:,g} {self.unit}"

    def told(self, figure: float) -> str:
        """A figure in words."""
        return f"{figure:,.{self.places}f} {self.unit}"

    def judged(self, figure: float, *, busy: bool) -> str:
        """Whether the figure is on the wanted side of the bound."""
        if self.bound is None:
            return ""
        if figure > self.bound if self.least else figure < self.bound:
            return "met"
        return "**not met, on a busy machine**" if busy else "**not met**"


def _at(*path: str) -> Callable[[Said], Figure | None]:
    """A figure as it stands in a result."""

    def read(said: Said) -> Figure | None:
        found: Any = said
        for name in path:
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return None if found is None else (float(found), "")

    return read


def _largest(said: Said) -> tuple[int, Said] | None:
    sizes = sorted(int(key) for key in said if key.isdigit())
    return (sizes[-1], said[str(sizes[-1])]) if sizes else None


def _of_largest(*path: str) -> Callable[[Said], Figure | None]:
    """A figure of the largest inventory that was measured."""

    def read(said: Said) -> Figure | None:
        largest = _largest(said)
        figure = _at(*path)(largest[1]) if largest else None
        return (figure[0], "" if largest[0] >= 1_000_000 else f"at {largest[0]:,}") if largest and figure else None

    return read


def _for(count: int, done: int, seconds: float) -> Figure:
    """The seconds that so many take, by those that were done."""
    return seconds * count / done, "" if done >= count else f"reckoned from {done:,}"


def _tick(said: Said) -> Figure | None:
    largest = _largest(said)
    tick = largest[1].get("renewal_tick") if largest else None
    return _for(32_000, tick["due"], tick["seconds"]) if tick and tick["due"] else None


def _crl(entry: Callable[[Said], float]) -> Callable[[Said], Figure | None]:
    def read(said: Said) -> Figure | None:
        largest = max(said["postgresql"], key=lambda each: each["entries"])
        return entry(largest), "" if largest["entries"] >= 1_000_000 else f"at {largest['entries']:,}"

    return read


def _best(said: Said) -> Figure | None:
    runs = said.get("postgresql", {}).get("one_by_one", [])
    best = max(runs, key=lambda each: each["per_second"], default=None)
    return (best["per_second"], f"{best['clients']} clients") if best else None


def _revoked(said: Said) -> Figure | None:
    """At the largest number of certificates that were revoked before."""
    return max(said["postgresql"], key=lambda each: each["already_revoked"])["one_by_one"]["per_second"], ""


def _in_bulk(said: Said) -> Figure | None:
    bulk = max((each["in_bulk"] for each in said["postgresql"]), key=lambda each: each["revoked"])
    return _for(100_000, bulk["revoked"], bulk["seconds"])


def _reissued(said: Said) -> Figure | None:
    found = said["mass_reissue"]
    return _for(100_000, found["certificates"], found["asked_for_and_approved"]["seconds"])


def _rolled_out(said: Said) -> Figure | None:
    found = said["rollout"]
    return found["proven_per_second"], f"{found['certificates']:,} certificates, {found['agents']:,} agents"


def _of_agents(count: int) -> str:
    return f"{count:,} agents" if count >= _AGENTS else f"with {count:,} of {_AGENTS:,} agents"


def _back(said: Said) -> Figure | None:
    found = said.get("crowd", said)
    storms = [each["all_back_in_seconds"] for each in found.get("storms", {}).values()]
    return (max(storms), _of_agents(found["agents"])) if storms else None


def _beats(said: Said) -> Figure | None:
    found = said.get("crowd", said)
    calm = found.get("calm")
    return (calm["beats"]["p99_ms"], _of_agents(found["agents"])) if calm else None


def _read(what: str, key: str) -> Aim:
    return Aim("inventory", f"{what}, of 1,000,000, p95", 50, "ms", _of_largest(key, "p95_ms"), places=1)


AIMS: Sequence[Aim] = (
    Aim("ocsp", "OCSP, from the pre-signed cache", 15_000, "a second", _at("postgresql", "kept", "per_second"),
        least=True),
    Aim("ocsp", "OCSP, signed live", 4_000, "a second", _at("postgresql", "signed_live", "per_second"), least=True),
    Aim("ocsp", "a revocation is seen by OCSP after", 1, "s",
        _at("postgresql", "revoked_under_load", "longest_after_seconds"), places=2),
    Aim("crl", "full CRL of 1,000,000 revoked", 3, "s",
        _crl(lambda each: sorted(each["make_full_seconds"])[len(each["make_full_seconds"]) // 2]), places=1),
    Aim("crl", "its memory", 350, "MB", _crl(lambda each: each["memory_mb_most"])),
    Aim("revoke", "revocations through the API, one by one", 500, "a second", _revoked, least=True),
    Aim("revoke", "100,000 revoked in bulk", 120, "s", _in_bulk),
    Aim("issue", "issuances through the JSON API, one by one", 300, "a second", _best, least=True),
    Aim("issue", "issuances as a batch", 1_500, "a second", _at("postgresql", "batches", "per_second"), least=True),
    _read("one certificate", "get"),
    _read("list, first page", "list"),
    _read("list by end", "list_by_end"),
    _read("list of one owner, active", "list_of_owner"),
    _read("list of the failed", "list_failed"),
    _read("search, a whole name", "search_name"),
    _read("search, a beginning", "search_prefix"),
    _read("search, a domain that 10,000 have", "search_domain"),
    Aim("inventory", "dashboard summary, at most 2 s old, p95", 100, "ms",
        _of_largest("summary", "often", "p95_ms"), places=1),
    Aim("inventory", "renewal tick at 1,000,000: 32,000 due found and enqueued", 20, "s", _tick, places=1),
    Aim("inventory", "ready after its start, 1,000,000 certificates", 3, "s",
        _of_largest("start", "ready_seconds"), places=1),
    Aim("reissue", "mass re-issue of 100,000 recorded, with its approval rules", 600, "s", _reissued),
    Aim("rollout", "its deployment by simulated agents", None, "proven a second", _rolled_out, least=True),
    Aim("crowd", "beats of kept connections, p99", 100, "ms", _beats, places=1),
    Aim("crowd", "all agents back after a reconnect storm", 180, "s", _back),
    Aim("imports", "bulk import, deduplicated by SHA-256, new certificates", 5_000, "a second",
        _at("postgresql", "new", "per_second"), least=True),
    Aim("imports", "the same certificates brought again", 5_000, "a second",
        _at("postgresql", "known", "per_second"), least=True),
)  # fmt: skip
PARTS = tuple(dict.fromkeys(aim.part for aim in AIMS))


def rows(results: Mapping[str, tuple[Said, bool]]) -> list[list[str]]:
    """The table: `results` by bench, each with whether its machine was busy."""
    found = []
    for aim in AIMS:
        said, busy = results.get(aim.part, ({}, False))
        figure = aim.read(said) if said else None
        if figure is None:
            found.append([aim.what, aim.wanted(), f"not measured yet (`bench/run.py {aim.part} --keep`)", ""])
            continue
        number, how = figure
        told = aim.told(number) + (f" ({how})" if how else "")
        found.append([aim.what, aim.wanted(), told, aim.judged(number, busy=busy)])
    return found
