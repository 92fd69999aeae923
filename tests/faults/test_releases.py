"""Releases side by side on one schema: the last one (built from its tag) beside the present one, and the present one beside a next.

A revision that the last release cannot live with fails here. What 0.1.0 itself cannot do (it stops saying `ready` once the
schema has moved on, and does not start there) is asserted as it is, and told in docs/operator/ha.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certctl.store import migrate
from faults.story import CHAPTERS, Play
from peers.fleet import Fleet
from peers.release import last_release, next_release
from peers.replicas import Replica, Replicas, csr_for, replicas

pytestmark = [pytest.mark.xdist_group("releases"), pytest.mark.timeout(480)]

# the newest revision that the last release knows; goes up with the file `last_release`
LAST_HEAD = "0001"


@pytest.fixture(scope="module")
def last(tmp_path_factory) -> Path:
    return last_release(tmp_path_factory.mktemp("release"))


def source(tree: Path | None) -> Path | None:
    return tree / "src" if tree else None


def issue(house: Replicas, replica: Replica, name: str) -> None:
    body = {"id": name, "common_name": f"{name}.example", "csr_pem": csr_for(f"{name}.example")}
    replica.did("POST", "/api/v1/certificates", body, house.key)
    current = f"FROM certificate_versions WHERE certificate_id = '{name}' AND status = 'current'"
    replica.wait(lambda: house.count(current) == 1, f"{name} is issued")


def work_through_both(house: Replicas, one: Replica, other: Replica, mark: str) -> None:
    """Issue, issue again and revoke through each; each sees what the other did, and both tell it in CRL and lists."""
    for number, (asked, seen) in enumerate(((one, other), (other, one))):
        name = f"{mark}-{number}"
        issue(house, asked, name)
        assert seen.did("GET", f"/api/v1/certificates/{name}", None, house.key)["status"] == "Active"
        again = {"csr_pem": csr_for(f"{name}.example")}
        seen.did("POST", f"/api/v1/certificates/{name}/csr", again, house.key)
        versions = f"FROM certificate_versions WHERE certificate_id = '{name}'"
        seen.wait(lambda: house.count(versions) == 2, "it is issued again")  # noqa: B023 - waited for here
        asked.did("POST", f"/api/v1/certificates/{name}/revoke", {"reason": "superseded"}, house.key)
        listed = seen.did("GET", "/api/v1/certificates?per_page=500", None, house.key)["data"]
        assert {row["status"] for row in listed if row["id"] == name} == {"Revoked"}
    one.wait(lambda: not house.count("FROM steps WHERE status IN ('ready', 'leased')"), "every step has ended")
    wrong = house.rows("SELECT id, type, status, last_error FROM jobs WHERE status <> 'Completed'")
    assert not wrong, wrong
    assert not house.rows("SELECT job_id FROM orders GROUP BY job_id HAVING count(*) > 1")
    # the first that is asked may make one which the other makes anew: each release encodes what is revoked in its own way
    one.wait(lambda: one.pki("crl/iss-local") == other.pki("crl/iss-local"), "they publish the same CRL")
    told = x509.load_der_x509_crl(one.pki("crl/iss-local"))
    revoked = house.rows("SELECT serial_number FROM certificate_revocations")
    assert {entry.serial_number for entry in told} == {int(serial, 16) for (serial,) in revoked}


def test_the_last_release_beside_this_one(last, tmp_path, postgres_server):
    with replicas(tmp_path, postgres_server) as house:
        old = house.add(source=source(last))
        issue(house, old, "before")
        new = house.add()
        assert house.rows("SELECT version_num FROM alembic_version") == [(migrate.head(),)]
        assert old.did("GET", "/health")["status"] == "healthy"
        issue(house, old, "old-on-new")
        work_through_both(house, old, new, "mixed")
        # what the last release did before is as good here as there
        new.did("POST", "/api/v1/certificates/before/revoke", {"reason": "superseded"}, house.key)
        judge_last_on_later_schema(old)
        new.wait(new.ready, "the new one is ready")


def judge_last_on_later_schema(old: Replica) -> None:
    """0.1.0 is ready, and starts, on its own schema alone. Later ones live with later schemas (ADR 8)."""
    moved_on = migrate.head() != LAST_HEAD
    old.wait(lambda: old.call("GET", "/ready").status_code == (503 if moved_on else 200), "it says whether it may work")
    old.stop()
    old.spawn()
    if moved_on:
        assert old.process.wait(60) == 4, old.log()
        assert "newer certctl" in old.log()
    else:
        old.wait(old.ready, "it starts again")


def test_this_release_beside_the_next(tmp_path, postgres_server):
    following = next_release(tmp_path / "tree", migrate.head())
    with replicas(tmp_path, postgres_server) as house:
        present = house.add()
        issue(house, present, "before")
        after = house.add(source=source(following))
        assert house.rows("SELECT version_num FROM alembic_version") == [("9999",)]
        present.wait(present.ready, "a schema that a later release has added to is served")
        work_through_both(house, present, after, "mixed")
        present.stop()
        present.start()
        issue(house, present, "started-on-a-later-schema")


def test_this_release_refuses_what_a_later_one_has_taken_away(tmp_path, postgres_server):
    more = '    from certctl.store.migrations.floor import raise_floor\n\n    raise_floor(op.get_bind(), "9999")\n'
    following = next_release(tmp_path / "tree", migrate.head(), more)
    with replicas(tmp_path, postgres_server) as house:
        present = house.add()
        house.add(source=source(following))
        present.wait(
            lambda: present.call("GET", "/ready").json()["db"] == "wrong_schema", "it knows that it may not work"
        )
        assert present.call("GET", "/ready").status_code == 503
        present.stop()
        present.spawn()
        assert present.process.wait(60) == 4, present.log()
        assert "newer certctl" in present.log()


class Mixed(Fleet):
    """A fleet whose processes may each be of another release: `release[name]` is a source tree, absent is the present."""

    release: dict[str, Path]

    def _spawn(self, name: str, script: Path, arguments: list[str], environ: dict[str, str]) -> Any:
        tree = self.release.get(name)
        if tree is not None:
            script = tree / "tests" / "peers" / script.name
            environ = environ | {"PYTHONPATH": f"{tree / 'src'}:{tree / 'tests'}"}
        return super()._spawn(name, script, arguments, environ)


@pytest.fixture
def play(tmp_path, postgres_server) -> Iterator[Play]:
    made = Play(tmp_path, postgres_server)
    mixed = Mixed(tmp_path, made._url)
    mixed.release = {}
    made.town = mixed
    yield made
    made.stop()


def test_an_agent_of_the_last_release_is_served_by_both(play, last):
    """It enrols at the old server, then two servers share one port, the old one and the new; at last the new one alone."""
    play.town.release = {"server": last, "agent": last}
    for chapter in CHAPTERS[: CHAPTERS.index("renew")]:
        play.play(chapter)
    play.town.stop_server()
    play.town.spawn_server(CERTCTL_SERVER_CHILD="1")
    play.town.wait(play.town._ready, "the old server is back")
    old = play.town.server
    play.town.release = {"agent": last}
    play.second = play.town.spawn_server(CERTCTL_SERVER_CHILD="2")
    play.town.server = old
    play.town.wait(play._two_listen, "the new server listens beside it")
    play.play("renew")
    play.judge()
    play.town.stop_server()
    play.town.server, play.second = play.second, None
    play.play("renew")
    play.play("revoke")
    play.play("look")
    play.judge()
    assert told_version(play, last) == play.rows("SELECT version FROM agents")[0][0]


def test_an_agent_of_this_release_works_for_the_last_one(play, last):
    """An agent is upgraded before its server, which the order of things should not punish."""
    play.town.release = {"server": last}
    for chapter in CHAPTERS:
        play.play(chapter)
    play.judge()


def told_version(play: Play, tree: Path) -> str:
    """What the release in `tree` calls itself."""
    text = (tree / "src" / "certctl" / "__init__.py").read_text()
    return json.loads(text.partition("__version__ = ")[2].splitlines()[0])
