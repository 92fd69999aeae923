"""What `make bench-report` computes and draws: in proportion to what was measured, and readable by any browser."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import aims
import charts
import paper

MEASURED = paper.Measured(
    cores=2,
    certificates=1_000_000,
    bytes_a_certificate=10_000,
    rows_a_renewal=20,
    bytes_a_renewal=8192,
    audit_rows_a_renewal=8,
    server_ms_a_renewal=100,
    database_ms_a_renewal=20,
    server_ms_a_call=2.5,
    kib_an_agent=100,
    ocsp_a_second=20_000,
    audit_appends_a_second=10_000,
    sealed_a_second=20_000,
    ticked_a_second=None,
    crl_bytes_an_entry=None,
)


def cells(text: str, row: str) -> list[float]:
    (line,) = [each for each in text.splitlines() if each.startswith(f"| {row}")]
    return [float(cell.split()[0].replace(",", "")) for cell in line.split("|")[2:-1]]


def test_what_is_asked_for_follows_from_size_and_life():
    text = "\n".join(paper.chapters(MEASURED, paper.Assumed()))
    # ten million renewed each 31.3 days, and each 4 days
    assert cells(text, "renewals a second") == pytest.approx([3.7, 28.9], abs=0.05)
    assert cells(text, "inventory at rest, TB") == [0.1, 0.1]
    # a million agents, a call each 25 s and one each 30 s
    assert cells(text, "calls of idle agents a second") == [73_333, 73_333]
    doubled = "\n".join(paper.chapters(MEASURED, paper.Assumed(certificates=20_000_000)))
    assert cells(doubled, "renewals a second") == pytest.approx([7.4, 57.9], abs=0.05)


def test_the_bottleneck_is_what_is_filled_most_and_what_is_not_measured_is_said_to_be_so():
    text = "\n".join(paper.chapters(MEASURED))
    assert "The greatest is **servers: idle agents**" in text
    assert "not measured" in text
    assert "The size of a CRL is not measured yet" in text
    slow = replace(MEASURED, ticked_a_second=0.01, crl_bytes_an_entry=40.0)
    text = "\n".join(paper.chapters(slow))
    assert "The greatest is **the renewal tick (one process for all)**" in text
    # one in a hundred of 912.5 million a year, each for six days, at 40 bytes
    assert "| 6 days | 150,000 | 6.00 |" in text


def test_a_chart_is_well_formed_stays_in_its_frame_and_shows_names_as_text():
    lines = {"<b>get</b> & more": [(1e4, 0.5), (1e6, 0.6)], "list": [(1e4, 0.5), (1e6, 30.0)]}
    drawn = charts.chart("t < u", "certificates", "ms", lines, ("limit", 0.2))
    root = ET.fromstring(drawn)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<b>get</b> & more", "list", "t < u", "limit", "10,000", "1,000,000"} <= set(texts)
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert charts.LEFT <= float(circle.get("cx")) <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= float(circle.get("cy")) <= charts.HEIGHT - charts.BOTTOM


def test_names_at_the_ends_of_lines_never_lie_on_one_another():
    same = {f"line {number}": [(10.0, 1.0), (100.0, 2.0)] for number in range(5)}
    root = ET.fromstring(charts.chart("t", "x", "y", same))
    heights = sorted(
        float(each.get("y"))
        for each in root.iter("{http://www.w3.org/2000/svg}text")
        if (each.text or "").startswith("line ")
    )
    assert all(after - before >= 13.9 for before, after in zip(heights, heights[1:], strict=False))


def test_each_aim_is_told_met_or_not_by_its_figure_and_what_is_missing_is_said_to_be_so():
    told = {row[0]: row[1:] for row in aims.rows({})}
    assert len(told) == len(aims.AIMS)
    assert all(row[1].startswith("not measured yet") and row[2] == "" for row in told.values())
    inventory = {"1000": {}, "500000": {"get": {"p95_ms": 49.9}, "list": {"p95_ms": 50.1}}}
    inventory["500000"]["renewal_tick"] = {"due": 16_000, "seconds": 9.0}
    imports = {"postgresql": {"new": {"per_second": 5001}, "known": {"per_second": 4999}}}
    bulk = {
        "postgresql": [
            {"already_revoked": 9, "one_by_one": {"per_second": 7}, "in_bulk": {"revoked": 50_000, "seconds": 61}}
        ]
    }
    told = {
        row[0]: row[1:]
        for row in aims.rows({"inventory": (inventory, True), "imports": (imports, False), "revoke": (bulk, False)})
    }
    assert told["one certificate, of 1,000,000, p95"] == ["under 50 ms", "49.9 ms (at 500,000)", "met"]
    assert told["list, first page, of 1,000,000, p95"][2] == "**not met, on a busy machine**"
    tick = told["renewal tick at 1,000,000: 32,000 due found and enqueued"]
    assert tick == ["under 20 s", "18.0 s (reckoned from 16,000)", "met"]
    assert told["bulk import, deduplicated by SHA-256, new certificates"][2] == "met"
    assert told["the same certificates brought again"][2] == "**not met**"
    assert told["100,000 revoked in bulk"] == ["under 120 s", "122 s (reckoned from 50,000)", "**not met**"]
