"""The CronJob's own script against a real PostgreSQL: restored whole, never half, summed, pruned; to S3 through aws-cli."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from chart.chart import of, render

COMMAND = "pg_dump --format=custom --no-owner --no-acl --dbname=certctl"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """The scripts as the CronJob mounts them."""
    folder = tmp_path_factory.mktemp("scripts")
    manifests = render("backup.enabled=true", "backup.sink=s3", "backup.s3.bucket=dumps")
    for name, text in of(manifests, "ConfigMap", "certctl-backup")["data"].items():
        (folder / name).write_text(text)
    plain = of(render("backup.enabled=true"), "ConfigMap", "certctl-backup")["data"]
    assert plain == {"backup.sh": (folder / "backup.sh").read_text()}, "one script, whatever the sink"
    return folder


@pytest.fixture(scope="module")
def database(postgres_server) -> str:
    """A database named certctl, as in the chart, with rows enough that a dump takes its time."""
    postgres_server.sql("DROP DATABASE IF EXISTS certctl WITH (FORCE)")
    postgres_server.sql("CREATE DATABASE certctl")
    postgres_server.sql("CREATE TABLE held (id bigint PRIMARY KEY, said text NOT NULL)", "certctl")
    # random text: nothing that compresses to nothing
    postgres_server.sql(
        "INSERT INTO held SELECT n, md5(n::text) || md5((n + 1)::text) FROM generate_series(1, 60000) n", "certctl"
    )
    return "certctl"


@pytest.fixture
def environ(postgres_server, database, tmp_path) -> dict[str, str]:
    (tmp_path / "backup").mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres_server.port),
        "PGUSER": "certctl",
        "PGPASSWORD": "unused",
        "BACKUP_DIR": str(tmp_path / "backup"),
        "BACKUP_RETENTION": "2",
    }


def run(script: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", script], env=environ, capture_output=True, text=True, timeout=120, check=False)


def dumps(environ: dict[str, str]) -> list[Path]:
    return sorted(Path(environ["BACKUP_DIR"]).glob("certctl-*.dump"))


def test_it_is_the_runbooks_command(scripts):
    text = (scripts / "backup.sh").read_text()
    assert [line for line in text.splitlines() if line.startswith("pg_dump")] == [f'{COMMAND} >"$part"']


def test_a_cronjob_runs_it_as_it_is(postgres_server, environ):
    job = of(render("backup.enabled=true"), "CronJob")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "/scripts/backup.sh"]
    assert {each["name"] for each in container["env"]} == environ.keys() - {"PATH", "HOME"}


def test_what_it_writes_is_restored_whole(scripts, postgres_server, environ):
    ended = run(scripts / "backup.sh", environ)
    assert ended.returncode == 0, ended.stderr
    (dump,) = dumps(environ)
    assert dump.stat().st_mode & 0o777 == 0o600
    said, name = Path(f"{dump}.sha256").read_text().split()
    assert (said, name) == (hashlib.sha256(dump.read_bytes()).hexdigest(), dump.name)
    restored = postgres_server.new_database().rpartition("/")[2]
    command = ["pg_restore", "--exit-on-error", "--no-owner", "--no-acl", f"--dbname={restored}", str(dump)]
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=120)
    question = "SELECT count(*) || md5(string_agg(said, ',' ORDER BY id)) FROM held"
    assert postgres_server.sql(question, restored) == postgres_server.sql(question, "certctl")


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle_it_leaves_nothing_that_looks_whole(scripts, environ, tmp_path, by):
    # a pg_dump that stands still half-way through, so that the middle is hit for certain
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "pg_dump").write_text(
        f'#!/bin/sh\n{shutil.which("pg_dump")} "$@" | head -c 100000\n: >"$BACKUP_DIR/../half"\nexec sleep 60\n'
    )
    (slow / "pg_dump").chmod(0o755)
    process = subprocess.Popen(
        ["/bin/sh", scripts / "backup.sh"], env=environ | {"PATH": f"{slow}:{environ['PATH']}"}, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "half").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "half").exists()
    os.killpg(process.pid, by)  # as a container that is stopped: all its processes
    process.wait(30)
    assert dumps(environ) == []
    ended = run(scripts / "backup.sh", environ)
    assert ended.returncode == 0, ended.stderr
    assert len(dumps(environ)) == 1
    assert len(list(Path(environ["BACKUP_DIR"]).iterdir())) == 2, "what the killed run left is gone"


@pytest.mark.parametrize("size", [0, 1000, 200_000])
def test_a_dump_that_is_cut_short_is_never_named(scripts, environ, tmp_path, size):
    cut = tmp_path / "bin"
    cut.mkdir()
    # ends well, as when a full disk or a proxy swallows the rest
    (cut / "pg_dump").write_text(f'#!/bin/sh\n{shutil.which("pg_dump")} "$@" | head -c {size}\nexit 0\n')
    (cut / "pg_dump").chmod(0o755)
    ended = run(scripts / "backup.sh", environ | {"PATH": f"{cut}:{environ['PATH']}"})
    assert ended.returncode != 0
    assert list(Path(environ["BACKUP_DIR"]).iterdir()) == []


def test_a_database_that_is_down_is_a_failure_and_prunes_nothing(scripts, environ):
    folder = Path(environ["BACKUP_DIR"])
    for day in range(1, 5):
        (folder / f"certctl-2026010{day}T000000Z.dump").write_bytes(b"old")
    ended = run(scripts / "backup.sh", environ | {"PGPORT": "1"})
    assert ended.returncode != 0
    assert len(dumps(environ)) == 4


def test_the_oldest_go_and_nothing_else(scripts, environ):
    folder = Path(environ["BACKUP_DIR"])
    for day in range(1, 5):
        (folder / f"certctl-2026010{day}T000000Z.dump").write_bytes(b"old")
        (folder / f"certctl-2026010{day}T000000Z.dump.sha256").write_bytes(b"old")
    (folder / "certctl-keep-me.dump").write_bytes(b"a person's own")
    assert run(scripts / "backup.sh", environ).returncode == 0
    names = sorted(path.name for path in folder.iterdir())
    assert "certctl-keep-me.dump" in names
    assert [name for name in names if re.fullmatch(r"certctl-2026010\d.*", name)] == [
        "certctl-20260104T000000Z.dump",
        "certctl-20260104T000000Z.dump.sha256",
    ]


AWS = """#!/bin/sh
# what `aws s3 cp|ls|rm` do, on a folder; anything else is refused
set -eu
[ "$1" = s3 ] || exit 252
verb=$2; shift 2
[ "$1" = --only-show-errors ] && shift
path() { case $1 in s3://*) echo "$STORE/${1#s3://}" ;; *) echo "$1" ;; esac; }
case $verb in
  cp) echo "cp ${1##*/}" >>"$STORE/calls"; mkdir -p "$(dirname "$(path "$2")")"; cp "$(path "$1")" "$(path "$2")" ;;
  rm) rm "$(path "$1")" ;;
  ls) cd "$(path "$1")" && for f in *; do echo "2026-01-01 00:00:00       3 $f"; done ;;
  *) exit 252 ;;
esac
"""


def test_to_s3_the_sum_goes_first_and_the_oldest_go(scripts, environ, tmp_path):
    assert run(scripts / "backup.sh", environ).returncode == 0
    (dump,) = dumps(environ)
    tools, store = tmp_path / "bin", tmp_path / "store"
    tools.mkdir()
    (store / "dumps" / "certctl").mkdir(parents=True)
    for day in range(1, 4):
        for end in ("dump", "dump.sha256"):
            (store / "dumps" / "certctl" / f"certctl-2026010{day}T000000Z.{end}").write_bytes(b"old")
    (tools / "aws").write_text(AWS)
    (tools / "aws").chmod(0o755)
    (template,) = [of(render("backup.enabled=true", "backup.sink=s3", "backup.s3.bucket=dumps"), "CronJob")]
    spec = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [each["command"] for each in spec["initContainers"]] == [["/bin/sh", "/scripts/backup.sh"]]
    (upload,) = spec["containers"]
    assert upload["command"] == ["/bin/sh", "/scripts/upload.sh"]
    (url,) = [each["value"] for each in upload["env"] if each["name"] == "BACKUP_URL"]
    assert url == "s3://dumps/certctl/"
    own = environ | {"PATH": f"{tools}:{environ['PATH']}", "STORE": str(store), "BACKUP_URL": url}
    ended = run(scripts / "upload.sh", own)
    assert ended.returncode == 0, ended.stderr
    assert (store / "calls").read_text().split() == ["cp", f"{dump.name}.sha256", "cp", dump.name]
    kept = sorted(path.name for path in (store / "dumps" / "certctl").glob("*.dump"))
    assert kept == ["certctl-20260103T000000Z.dump", dump.name]
    assert (store / "dumps" / "certctl" / dump.name).read_bytes() == dump.read_bytes()
    dump.write_bytes(b"damaged on the way")
    assert run(scripts / "upload.sh", own).returncode != 0, "a dump that is not what was summed is not uploaded"
