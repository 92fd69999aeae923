"""One word for how a certificate stands: only what was seen is green, and the gravest comes first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certctl.core.certificate import Certificate
from certctl.core.status import CertificateStatus
from certctl.store.truths import Leaf, Place, Underway
from certctl.web import marks
from certctl.web.marks import Facts

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def certificate(**more) -> Certificate:
    values = dict.fromkeys(Certificate.__struct_fields__, "") | {
        "id": "mc-1", "name": "shop.example.com", "issuer_id": "iss-local", "sans": [], "tags": {}, "failures": 0,
        "status": CertificateStatus.ACTIVE, "expires_at": NOW + timedelta(days=60), "row_version": 1,
        "validity_seconds": None, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Certificate(**(values | more))


def leaf(**more) -> Leaf:
    values = dict.fromkeys(Leaf.__struct_fields__, "") | {
        "id": "v-1", "holder_id": "agent-1", "status": "current", "key_size": 256,
        "not_before": NOW - timedelta(days=30), "not_after": NOW + timedelta(days=60), "created_at": NOW,
    }  # fmt: skip
    return Leaf(**(values | more))


def place(**more) -> Place:
    values = dict.fromkeys(Place.__struct_fields__, "") | {
        "target_id": "t-1", "config": {}, "agent_status": "Online", "status": "verified", "version_id": "v-1",
        "leaf_status": "current", "leaf_not_after": NOW + timedelta(days=60), "last_heartbeat_at": NOW,
        "applied_at": NOW, "verified_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Place(**(values | more))


def job(**more) -> Underway:
    values = dict.fromkeys(Underway.__struct_fields__, "") | {"attempts": 0, "created_at": NOW}
    return Underway(**(values | more))


def facts(of=None, leaves=None, places=None, jobs=()) -> Facts:
    return Facts(
        certificate=of or certificate(),
        leaves=[leaf()] if leaves is None else leaves,
        places=[place()] if places is None else places,
        jobs=jobs,
        now=NOW,
    )


SOON = NOW + timedelta(days=2)


@pytest.mark.parametrize(
    ("given", "kind", "word", "letters"),
    [
        (facts(), "ok", "Proven", "ok ok ok ok"),
        (facts(places=[place(), place(status="applied")]), "unk", "Not seen", "ok ok unk unk"),
        (facts(places=[place(leaf_status="superseded")]), "unk", "Not seen", "ok warn unk ok"),
        (facts(places=[place(status="drifted")]), "bad", "Serves another", "ok ok bad unk"),
        (facts(places=[place(status="failed")]), "warn", "Not deployed", "ok bad unk unk"),
        (facts(places=[place(agent_status="Offline")]), "warn", "Agent silent", "ok ok unk unk"),
        (facts(places=[place(status="applying")]), "work", "Deploying", "ok work work unk"),
        (facts(places=[]), "unk", "Issued", "ok unk unk unk"),
        (facts(jobs=[job(type="Renewal", status="Running")]), "work", "Renewing", "work ok ok ok"),
        (facts(jobs=[job(type="Renewal", status="AwaitingApproval")]), "warn", "Waits for approval", "work ok ok ok"),
        (facts(leaves=[], places=[], jobs=[job(type="Issuance", status="Pending")]), "work", "Issuing", "work unk unk unk"),
        (facts(leaves=[], places=[place(status="", leaf_status="")]), "unk", "Nothing issued", "unk unk unk unk"),
        (facts(certificate(failures=3)), "warn", "Cannot renew", "ok ok ok ok"),
        (facts(certificate(failures=3, expires_at=SOON)), "bad", "Cannot renew", "ok ok ok ok"),
        (facts(certificate(failures=1), leaves=[], places=[]), "warn", "Cannot issue", "bad unk unk unk"),
        (facts(certificate(expires_at=NOW - timedelta(hours=2))), "bad", "Expired", "bad ok ok ok"),
        (facts(certificate(status=CertificateStatus.REVOKED), leaves=[]), "warn", "Revoked, in place", "bad ok ok ok"),
        (facts(places=[place(leaf_status="revoked")]), "unk", "Not seen", "ok warn unk bad"),
        (facts(leaves=[leaf(holder_id="external")], places=[]), "unk", "Watched only", "ok unk unk unk"),
        (facts(certificate(status=CertificateStatus.ARCHIVED)), "unk", "Archived", "ok ok ok ok"),
    ],
)  # fmt: skip
def test_what_is_seen_is_what_is_said(given, kind, word, letters):
    shown = marks.mark(given)
    assert (shown.kind, shown.word) == (kind, word)
    assert " ".join(truth.kind for truth in marks.truths(given)) == letters


def test_four_truths_have_one_spoken_name():
    assert marks.spoken(marks.truths(facts())) == "all four proven"
    assert "Served: 0 of 1 place" in marks.spoken(marks.truths(facts(places=[place(status="drifted")])))
