"""What must be true of a town when the fire is out: zero lost, zero doubled, zero falsely green. Read from the database itself,
from what the signer signed, and from what the prober saw."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.look import Prober
from chaos.town import Host, Town
from faults.story import certificate_of, hex_serial, is_leaf

_LIVE = "status NOT IN ('Completed', 'Failed', 'Cancelled')"
# the clock that verified and the clock that saw are one, but a sight is noted after it was seen
_NOTED_LATE = timedelta(seconds=1)


def unsettled(town: Town) -> list[str]:
    """What still has to happen before all is at rest; empty when it is."""
    waiting = [
        f"job {one} ({kind}, {status}) of {certificate}: {error}"
        for one, kind, status, certificate, error in town.rows(
            f"SELECT id, type, status, certificate_id, left(replace(last_error, '|', '/'), 200) FROM jobs WHERE {_LIVE}"
        )
    ]
    verified = dict(
        town.rows(
            "SELECT d.certificate_id, d.version_id FROM deployments d JOIN certificate_versions v ON v.id = d.version_id "
            "WHERE d.status = 'verified' AND v.status = 'current'"
        )
    )
    active = {one for (one,) in town.rows("SELECT id FROM managed_certificates WHERE status = 'Active'")}
    for host in town.hosts:
        if host.certificate_id not in verified:
            waiting.append(f"{host.certificate_id} is not verified in its current version")
        elif host.certificate_id not in active:
            waiting.append(f"{host.certificate_id} is not Active")
    open_steps = town.rows("SELECT id, kind, status FROM steps WHERE status IN ('ready', 'leased')")
    waiting += [f"a step is left open: {one}" for one in open_steps]
    # an agent whose answer was lost with a dying server sends its result again after a while
    return waiting + _in_hand(town)


def judge(town: Town, prober: Prober, asked: dict[str, str]) -> list[str]:
    """Every fault there is, in sentences. `asked`: the jobs that were promised in an answer, and for what."""
    return [*_lost(town, asked), *_doubled(town), *_signed(town), *_served(town, prober), *_left_over(town)]


def _lost(town: Town, asked: dict[str, str]) -> list[str]:
    known = {one for (one,) in town.rows("SELECT id FROM jobs")}
    faults = [f"job {one}, promised for {why}, is gone" for one, why in asked.items() if one not in known]
    faults += unsettled(town)
    issued = town.rows(
        "SELECT j.id, j.type FROM jobs j LEFT JOIN certificate_versions v ON v.job_id = j.id "
        "WHERE j.type IN ('Issuance', 'Renewal') AND j.status = 'Completed' AND v.id IS NULL"
    )
    faults += [f"{kind} {one} ended well without a version" for one, kind in issued]
    undeployed = town.rows(
        "SELECT v.id FROM certificate_versions v JOIN managed_certificates m ON m.id = v.certificate_id "
        "JOIN certificate_target_mappings t ON t.certificate_id = m.id "
        "LEFT JOIN deployments d ON d.version_id = v.id WHERE d.id IS NULL"
    )
    faults += [f"version {one} was never sent to its target" for (one,) in undeployed]
    return faults


_ONCE = {
    "a job with two intents": "SELECT job_id FROM orders GROUP BY job_id HAVING count(*) > 1",
    "a job with two versions": "SELECT job_id FROM certificate_versions GROUP BY job_id HAVING count(*) > 1",
    "two versions with one serial": "SELECT serial_number FROM certificate_versions GROUP BY serial_number HAVING count(*) > 1",
    "two keys of one": "SELECT spki_sha256 FROM certificate_versions GROUP BY spki_sha256 HAVING count(*) > 1",
    "a version replaced twice": (
        "SELECT replaces_id FROM certificate_versions WHERE replaces_id <> '' GROUP BY replaces_id HAVING count(*) > 1"
    ),
    "an event that stands twice for one job": (
        "SELECT type || ' ' || (details->>'job_id') FROM audit_events WHERE type IN ('certificate_issued', "
        "'renewal_job_completed', 'renewal_job_created', 'order_intended', 'deployment_job_completed', 'deployment_applied', "
        "'request_approved') AND details->>'job_id' <> '' GROUP BY type, details->>'job_id' HAVING count(*) > 1"
    ),
    "two current versions": (
        "SELECT certificate_id FROM certificate_versions WHERE status = 'current' GROUP BY certificate_id HAVING count(*) > 1"
    ),
    "two verified deployments of one target": (
        "SELECT target_id FROM deployments WHERE status = 'verified' GROUP BY target_id HAVING count(*) > 1"
    ),
    "two deployments of one version to one target, the first not failed": (
        "SELECT version_id FROM deployments WHERE status NOT IN ('failed', 'drifted') "
        "GROUP BY version_id, target_id HAVING count(*) > 1"
    ),
}


def _doubled(town: Town) -> list[str]:
    return [f"{what}: {one}" for what, sql in _ONCE.items() for (one,) in town.rows(sql)]


def _signed(town: Town) -> list[str]:
    """No signed leaf without its stored intent and its row, one serial one TBS, nothing recorded that was not signed."""
    orders = dict(town.rows("SELECT serial_number, encode(tbs_der, 'hex') FROM orders"))
    recorded = {serial for (serial,) in town.rows("SELECT serial_number FROM certificate_versions")}
    signed: dict[str, set[str]] = defaultdict(set)
    faults, leaves = [], set()
    for line in town.signed_file.read_text().splitlines():
        tbs = line.split()[1]
        certificate = certificate_of(bytes.fromhex(tbs))
        if certificate is None:
            continue
        serial = hex_serial(certificate)
        signed[serial].add(tbs)
        if is_leaf(certificate):
            leaves.add(serial)
            if orders.get(serial, "") != tbs:
                faults.append(f"serial {serial} was signed without its stored intent")
    faults += [f"serial {serial} signed {len(tbs)} TBS" for serial, tbs in signed.items() if len(tbs) > 1]
    faults += [f"serial {serial} was signed and is not recorded" for serial in leaves - recorded]
    faults += [f"serial {serial} is recorded and was not signed" for serial in recorded - leaves]
    return faults


def _served(town: Town, prober: Prober) -> list[str]:
    """Every sight is a recorded version; after a version was verified, nothing older was ever seen again."""
    faults = []
    for host in town.hosts:
        found = town.rows(
            "SELECT v.fingerprint_sha256, extract(epoch FROM v.created_at), coalesce(extract(epoch FROM min(d.verified_at)), 0) "
            f"FROM certificate_versions v LEFT JOIN deployments d ON d.version_id = v.id "
            f"WHERE v.certificate_id = '{host.certificate_id}' GROUP BY v.id, v.fingerprint_sha256, v.created_at"
        )
        born = {one: float(at) for one, at, _ in found} | {host.placeholder: 0.0}
        verified = sorted((float(at), born[one]) for one, _, at in found if float(at))
        for sight in prober.sights[host.name]:
            if sight.fingerprint not in born:
                faults.append(f"{host.name} served {sight.fingerprint}, which nobody recorded")
                continue
            at = (sight.at - _NOTED_LATE).timestamp()
            newest = max((birth for moment, birth in verified if moment < at), default=0.0)
            if born[sight.fingerprint] < newest:
                faults.append(f"{host.name} served an older version at {sight.at:%H:%M:%S} after a newer was verified")
        current = town.rows(
            f"SELECT fingerprint_sha256 FROM certificate_versions WHERE certificate_id = '{host.certificate_id}' AND status = 'current'"
        )
        sights = prober.sights[host.name]
        if [(sights[-1].fingerprint,)] != current if sights else True:
            faults.append(f"{host.name} serves {sights[-1:]} and not its current version {current}")
    return faults


def _left_over(town: Town) -> list[str]:
    faults = []
    for host in town.hosts:
        names = {path.name for path in host.tls_dir.iterdir()}
        if names != {"cert.pem", "key.pem"}:
            faults.append(f"{host.name}: left over beside the served files: {sorted(names - {'cert.pem', 'key.pem'})}")
        faults += [f"{host.name}: left over: {path}" for path in (host.dir / "agent" / "state").glob("**/*.corrupt-*")]
    return faults


def _in_hand(town: Town) -> list[str]:
    """What agents keep on disk of work that they have not come to the end of."""
    faults = []
    for host in town.hosts:
        state = host.dir / "agent" / "state"
        for pattern in ("outbox/*.json", "deploys/*.json", "targets/*/swap/*.swap"):
            faults += [f"{host.name}: left over: {path.relative_to(state)}" for path in state.glob(pattern)]
    return faults


def statistics(town: Town) -> dict[str, Any]:
    """Figures of the run, from the database."""
    jobs = {f"{kind} {status}": int(count) for kind, status, count in _grouped(town, "jobs", "type, status")}
    tries = Counter(
        {
            kind: int(count)
            for kind, count in town.rows("SELECT kind, sum(greatest(attempts, 1)) FROM steps GROUP BY kind")
        }
    )
    done = {kind: int(count) for kind, count in town.rows("SELECT kind, count(*) FROM steps GROUP BY kind")}
    whole = [
        float(one)
        for (one,) in town.rows(
            "SELECT extract(epoch FROM d.verified_at - j.created_at) FROM deployments d JOIN certificate_versions v ON "
            "v.id = d.version_id JOIN jobs j ON j.id = v.job_id WHERE d.verified_at IS NOT NULL ORDER BY 1"
        )
    ]
    failed = town.rows(
        "SELECT type, left(replace(last_error, '|', '/'), 160), count(*) FROM jobs WHERE status = 'Failed' GROUP BY 1, 2"
    )
    return {
        "jobs": jobs,
        "versions": int(town.rows("SELECT count(*) FROM certificate_versions")[0][0]),
        "revocations": int(town.rows("SELECT count(*) FROM certificate_revocations")[0][0]),
        "steps": done,
        "step_attempts": dict(tries),
        "events": int(town.rows("SELECT count(*) FROM audit_events")[0][0]),
        "jobs_failed_with": [f"{kind}: {error} ({count})" for kind, error, count in failed],
        "request_to_verified_seconds": {
            "p50": round(whole[len(whole) // 2], 1) if whole else None,
            "p99": round(whole[int(len(whole) * 0.99)], 1) if whole else None,
            "longest": round(whole[-1], 1) if whole else None,
        },
    }


def _grouped(town: Town, table: str, columns: str) -> list[tuple[str, ...]]:
    return town.rows(f"SELECT {columns}, count(*) FROM {table} GROUP BY {columns} ORDER BY {columns}")


def last_words(town: Town, host: Host) -> str:
    """The end of a host's log, for a fault that has to be looked into."""
    with contextlib.suppress(OSError):
        return f"{datetime.now(UTC):%H:%M:%S} {host.name}:\n" + town.log(f"{host.name}/agent")
    return ""
