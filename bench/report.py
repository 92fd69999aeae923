"""`make bench-report`: docs/operator/scale.md and its charts, from the newest committed results and from nothing else.

Every figure there is read from bench/results or computed here from what was read; what is assumed stands in
`paper.Assumed` and is told in the document as assumed. With --check it fails when the document is not what this makes
of the results that it names. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aims
import charts
import paper

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "operator" / "scale.md"
READS = ROOT / "docs" / "operator" / "scale-reads.svg"
PAGES = ROOT / "docs" / "operator" / "scale-pages.svg"
STORED = ROOT / "docs" / "operator" / "scale-stored.svg"
_NAMED = {
    "get": "one certificate",
    "list": "list, first page",
    "list_far_in": "list, next page by keyset",
    "list_by_end": "list by end",
    "list_of_owner": "list of one owner, active",
    "list_failed": "list of the failed, newest first",
    "search_name": "search, a whole name",
    "search_prefix": "search, a beginning (up to 10 found)",
    "search_domain": "search, a domain (1 in 97 found)",
    "page_certificates": "page of certificates",
    "page_certificate": "page of one certificate",
    "page_overview": "overview",
}
_DRAWN = ("get", "list", "list_of_owner", "search_name", "search_domain")
_PAGES = ("page_certificates", "page_certificate", "page_overview")
# a bench, its server and its database are two by themselves
_BUSY = 3.0
_HEAD = (
    "Written by `make bench-report` from [bench/results](../../bench/results); do not edit it. What was measured, up "
    "to {most:,} certificates, comes first; what follows from it on paper comes after."
)
_BUSY_SAID = (
    "**Some of these results come from a machine that others worked on** (see the loads below): compare within one "
    "row, and measure again on a machine of your own."
)
_AIMED = (
    "PostgreSQL, the server and whoever calls share the machine. What was measured smaller than its aim is reckoned in "
    "a straight line, or says with how many it was measured; the rest was seen."
)
_HOW_READ = (
    "One server process, PostgreSQL on the same machine, one caller on a kept TLS connection, one call after the "
    "other. Seeds are real certificates of the built-in CA ([bench/seed.py](../../bench/seed.py))."
)
_WHAT_GROWS = (
    "A search for a domain that thousands have walks the list in its order and looks each row up among the names that "
    "were found, 40,000 at most: it grows with those, and no further. The "
    "overview of a large inventory is counted beside the page, and shown with its time."
)
_AGAIN = """```
make bench BENCH='inventory --tick --keep'    # makes the seeds of 10,000, 100,000 and 1,000,000 where there are none
make bench BENCH='footprint --keep'
make bench BENCH='imports --keep'             # and so on: ocsp, crl, revoke, issue, reissue, rollout, crowd
make bench-report
```"""


@dataclass(frozen=True)
class Source:
    """One result: its file and what it says."""

    path: Path
    said: Mapping[str, Any]

    @property
    def load(self) -> float:
        """The greatest load average that it tells of."""
        return max(_loads(self.said), default=0.0)

    def link(self) -> str:
        """The file, as the document links it."""
        return f"[{self.path.name}](../../bench/results/{self.path.name})"


def _loads(said: Any) -> list[float]:
    if not isinstance(said, Mapping):
        return []
    own = [float(value) for key, value in said.items() if key.startswith("load_")]
    return own + [load for value in said.values() for load in _loads(value)]


def told_sources() -> frozenset[str] | None:
    """The files that the document says it was made of; None where there is none yet."""
    if not DOCUMENT.exists():
        return None
    return frozenset(re.findall(r"\(\.\./\.\./bench/results/([^)/]+\.json)\)", DOCUMENT.read_text()))


def newest(part: str, among: frozenset[str] | None, *, needed: bool = True) -> Source | None:
    """The newest result of one bench; of some files alone, when they are given."""
    named = re.compile(rf"\d{{8}}-{part}-[0-9a-f]+(-dirty|-[a-z-]+)?\.json")
    found = [path for path in RESULTS.glob("*.json") if named.fullmatch(path.name) and "busy-machine" not in path.name]
    if among is not None:
        found = [path for path in found if path.name in among]
    sources = [Source(path, json.loads(path.read_text())) for path in found]
    if not sources:
        if needed:
            raise SystemExit(f"there is no result of {part}: bench/run.py {part} --keep")
        return None
    return max(sources, key=lambda source: (source.said["at"], source.path.name))


def _must(part: str, among: frozenset[str] | None) -> Source:
    found = newest(part, among)
    assert found is not None
    return found


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def sizes_of(inventory: Source) -> list[int]:
    """The sizes that were measured, the smallest first."""
    return sorted(int(key) for key in inventory.said if key.isdigit())


def figures_of(inventory: Source, count: int) -> Mapping[str, Any]:
    """What was measured at one size."""
    found: Mapping[str, Any] = inventory.said[str(count)]
    return found


def steepness(few: tuple[float, float], many: tuple[float, float]) -> float:
    """The exponent of growth between two points: 0 is flat, 1 is in proportion."""
    return math.log(many[1] / few[1]) / math.log(many[0] / few[0])


def _reads(inventory: Source) -> str:
    sizes = sizes_of(inventory)
    heads = ["p50 / p95 in ms", *(f"{count:,}" for count in sizes), "p50 grows as n to the power of"]
    rows = [["limit: raw SQL by primary key", *_pair(inventory, sizes, "limit_sql_by_primary_key")]]
    rows.append(["limit: a route without a database", *_pair(inventory, sizes, "limit_no_database")])
    rows += [[name, *_pair(inventory, sizes, key)] for key, name in _NAMED.items()]
    return table(heads, rows)


def _pair(inventory: Source, sizes: Sequence[int], key: str) -> list[str]:
    each = [figures_of(inventory, count)[key] for count in sizes]
    told = [f"{one['p50_ms']:,.1f} / {one['p95_ms']:,.1f}" for one in each]
    if len(sizes) < 2:
        return [*told, "-"]
    grown = steepness((sizes[0], each[0]["p50_ms"]), (sizes[-1], each[-1]["p50_ms"]))
    return [*told, f"{grown:.2f}"]


def _states(inventory: Source) -> str:
    sizes = sizes_of(inventory)
    rows = []
    for name, told in (
        ("database, GiB", lambda f: f"{f['database_mib'] / 1024:,.2f}"),
        ("server process, resident MiB", lambda f: f"{f['server_mib']:,.0f}"),
        ("ready after its start, s", lambda f: f"{f['start']['ready_seconds']:,.1f}"),
        ("first overview after a start, ms", lambda f: f"{f['start']['first_overview_ms']:,.0f}"),
        ("summary, asked ten times a second, p95 ms", lambda f: f"{f['summary']['often']['p95_ms']:,.0f}"),
        ("summary, counted for who comes alone, p50 ms", lambda f: f"{f['summary']['alone']['p50_ms']:,.0f}"),
    ):
        rows.append([name, *(told(figures_of(inventory, count)) for count in sizes)])
    return table(["", *(f"{count:,}" for count in sizes)], rows)


def _ticks(inventory: Source) -> str:
    rows = []
    for count in sizes_of(inventory):
        tick = figures_of(inventory, count).get("renewal_tick")
        if tick:
            memory = f"{tick['memory_before_mib']:,.0f} to {tick['memory_highest_mib']:,.0f}"
            rows.append(
                [
                    f"{count:,}",
                    f"{tick['due']:,}",
                    f"{tick['renewals_enqueued']:,}",
                    f"{tick['seconds']:,.1f}",
                    f"{tick['per_second']:,.0f}",
                    f"{1000 * tick['cpu_seconds_of_the_process'] / tick['due']:,.1f}",
                    memory,
                ]
            )
    heads = ["certificates", "due", "renewals written", "s", "a second", "ms of CPU each", "memory, MiB"]
    return table(heads, rows) if rows else "Not measured yet: `bench/run.py inventory --tick --keep`."


def _aims(results: Mapping[str, Source]) -> str:
    told = {part: (source.said, source.load > _BUSY) for part, source in results.items()}
    return table(["aim, on 2 cores", "wanted", "measured", ""], aims.rows(told))


def _sources(sources: Sequence[Source]) -> str:
    rows = []
    for source in sources:
        load = f"{source.load:.1f}" + (" (**busy**)" if source.load > _BUSY else "")
        rows.append([source.link(), str(source.said["at"])[:10], f"`{source.said['commit']}`", load])
    return table(["result", "day", "commit", "greatest load average"], rows)


def drawings(inventory: Source) -> dict[Path, str]:
    """The charts."""
    sizes = sizes_of(inventory)

    def points(key: str) -> list[tuple[float, float]]:
        return [(count, figures_of(inventory, count)[key]["p50_ms"]) for count in sizes]

    limit = ("raw SQL by primary key", points("limit_sql_by_primary_key")[-1][1])
    stored = [(count, figures_of(inventory, count)["database_mib"]) for count in sizes]
    memory = [(count, figures_of(inventory, count)["server_mib"]) for count in sizes]
    return {
        READS: charts.chart(
            "One read against the size of the inventory (median)", "certificates", "ms",
            {_NAMED[key].split(" (")[0]: points(key) for key in _DRAWN}, limit,
        ),
        PAGES: charts.chart(
            "Pages against the size of the inventory (median)", "certificates", "ms",
            {_NAMED[key]: points(key) for key in _PAGES},
        ),
        STORED: charts.chart(
            "What it takes against the size of the inventory", "certificates", "MiB",
            {"database on disk": stored, "server process": memory},
        ),
    }  # fmt: skip


def document(among: frozenset[str] | None = None) -> dict[Path, str]:
    """Every file, as it should read: by the newest results, or by the newest among some."""
    inventory, ladder, ocsp = (_must(part, among) for part in ("inventory", "ladder", "ocsp"))
    audit, footprint, crl = _must("audit", among), _must("footprint", among), newest("crl", among, needed=False)
    measured_by = {part: found for part in aims.PARTS if (found := newest(part, among, needed=False))}
    named = [inventory, footprint, ladder, ocsp, audit, *measured_by.values()]
    sources = list({source.path: source for source in named}.values())
    sizes = sizes_of(inventory)
    measured = paper.Measured.read(
        largest=sizes[-1],
        inventory={count: figures_of(inventory, count) for count in sizes},
        footprint=footprint.said,
        ladder=ladder.said,
        ocsp=ocsp.said,
        audit=audit.said,
        crl=crl.said if crl else None,
    )
    text = "\n\n".join(
        [
            "# Scale",
            _HEAD.format(most=sizes[-1]),
            _BUSY_SAID if any(source.load > _BUSY for source in sources) else "",
            "## Where it comes from",
            _sources(sources),
            "## Aims",
            _AIMED,
            _aims(measured_by),
            "## One read against the size of the inventory",
            _HOW_READ,
            _reads(inventory),
            "![Reads](scale-reads.svg)\n\n![Pages](scale-pages.svg)",
            _WHAT_GROWS,
            "## What it takes",
            _states(inventory),
            "![Stored](scale-stored.svg)",
            "## The renewal tick",
            _ticks(inventory),
            *paper.chapters(measured),
            "## Make it again",
            _AGAIN,
        ]
    )
    text = re.sub(r"\n{3,}", "\n\n", text)
    return {DOCUMENT: text.rstrip() + "\n"} | drawings(inventory)


def main(given: Sequence[str] | None = None) -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a file is not what this makes")
    asked = parser.parse_args(given)
    if asked.check:
        # a result that came since does not make the document untrue: it says what it was made of
        made = document(told_sources())
        stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what bench/results say: run make bench-report\n")
        return 1 if stale else 0
    for path, text in document().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
