"""`certctl-server --migrate-only`, the hook's variable, waiting for a database, and the SQL of a way back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from certctl.store import migrate
from peers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY = "a key for tests only, of enough length"
PEER = ROOT / "tests" / "peers" / "server_process.py"


def environ(directory: Path, url: str = "", **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    return (
        inherited
        | {
            "CERTCTL_DATA_DIR": str(directory),
            "CERTCTL_SERVER_PORT": str(free_port()),
            "CERTCTL_PKI_HTTP_PORT": str(free_port()),
            "CERTCTL_CONFIG_ENCRYPTION_KEY": KEY,
        }
        | ({"CERTCTL_DATABASE_URL": url} if url else {})
        | more
    )


def run(env: dict[str, str], *arguments: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = command or (sys.executable, "-m", "certctl.cli.server")
    ended = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=90, check=False)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def tables(server, url: str) -> int:
    name = url.rpartition("/")[2]
    return int(server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name))


def ready(env: dict[str, str]) -> subprocess.Popen[str]:
    """A server that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "certctl.cli.server"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if '"ready"' in line:
            watchdog.cancel()
            return process
    watchdog.cancel()
    stop(process)
    raise AssertionError("".join(lines))


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    process.stdout.close()


def test_the_installed_wheel_migrates_seeds_and_listens_nowhere(tmp_path, postgres_server):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(installed), str(wheel)], check=True, capture_output=True, timeout=120)
    script = installed / "bin" / "certctl-server"
    assert script.is_file()
    url, trace = postgres_server.new_database(), tmp_path / "trace"
    env = environ(tmp_path / "data", url, PYTHONPATH=str(installed))
    where = run(env, "-c", "import certctl; print(certctl.__file__)", command=(sys.executable,)).stdout.strip()
    assert Path(where).is_relative_to(installed), "it must be the wheel that runs, not the work tree"
    strace = shutil.which("strace")
    assert strace, "strace is not installed: run make test"
    calls = "trace=listen,bind,accept,accept4,connect"
    ended = run(env, "--migrate-only", command=(strace, "-f", "-qq", "-e", calls, "-o", str(trace), str(script)))
    assert ended.returncode == 0, ended.stderr
    seen = trace.read_text()
    assert "connect(" in seen, "the trace must see what it is to see"
    assert "listen(" not in seen
    assert "accept" not in seen
    assert not [line for line in seen.splitlines() if "bind(" in line and "AF_NETLINK" not in line]
    database = url.rpartition("/")[2]
    assert postgres_server.sql("SELECT version_num FROM alembic_version", database) == migrate.head()
    assert postgres_server.sql("SELECT count(*) FROM issuers", database) == "1"
    assert postgres_server.sql("SELECT count(*) FROM ca_keys", database) == "0", "no signer, so no CA key yet"


def test_help_says_what_it_does():
    said = " ".join(run(dict(os.environ), "--help").stdout.split())
    assert "opens no listener, scheduler or signer" in said
    assert "5 the database cannot be reached" in said


def test_a_host_that_does_not_exist_is_absent_on_a_first_install_only(tmp_path):
    env = environ(tmp_path / "data", "postgres://certctl:secret@no-such-host.invalid:5432/certctl")
    first = run(env, "--migrate-only", "--first-install")
    assert first.returncode == 0, first.stderr
    assert "database_not_there_yet" in first.stderr + first.stdout
    assert run(env, "--migrate-only").returncode == 5


def test_a_port_where_nothing_listens_is_absent_on_a_first_install_only(tmp_path):
    env = environ(tmp_path / "data", f"postgres://certctl:secret@127.0.0.1:{free_port()}/certctl")
    first = run(env, "--migrate-only", "--first-install")
    assert first.returncode == 0, first.stderr
    assert "nothing listens" in first.stderr + first.stdout
    later = run(env, "--migrate-only")
    assert later.returncode == 5
    assert "cannot be reached" in later.stderr


def test_a_first_install_hides_no_refusal(tmp_path, postgres_server):
    hba = postgres_server.directory / "data" / "pg_hba.conf"
    postgres_server.sql("CREATE ROLE locked LOGIN PASSWORD 'right'")
    before = hba.read_text()
    url = postgres_server.new_database().replace("certctl@", "locked:wrong@")
    try:
        hba.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
        postgres_server.sql("SELECT pg_reload_conf()")
        ended = run(environ(tmp_path / "data", url), "--migrate-only", "--first-install")
    finally:
        hba.write_text(before)
        postgres_server.sql("SELECT pg_reload_conf()")
    assert ended.returncode == 4, (ended.stdout, ended.stderr)
    assert "the database refuses the connection" in ended.stderr
    assert "wrong" not in ended.stderr.replace("wrong usage", ""), "a password is never told"
    missing = postgres_server.new_database() + "_missing"
    assert run(environ(tmp_path / "data", missing), "--migrate-only", "--first-install").returncode == 4


def test_another_encryption_key_is_refused_before_anything_rolls_out(tmp_path, postgres_server):
    url = postgres_server.new_database()
    stop(ready(environ(tmp_path / "a", url)))
    ended = run(environ(tmp_path / "b", url, CERTCTL_CONFIG_ENCRYPTION_KEY=KEY[::-1]), "--migrate-only")
    assert ended.returncode == 4
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY" in ended.stderr
    assert run(environ(tmp_path / "b", url), "--migrate-only").returncode == 0


def test_with_the_hook_a_server_refuses_an_older_schema_and_leaves_it_alone(tmp_path, postgres_server):
    url = postgres_server.new_database()
    env = environ(tmp_path / "data", url, CERTCTL_MIGRATIONS_VIA_HOOK="true")
    refused = run(env)
    assert refused.returncode == 4
    assert "older than" in refused.stderr
    assert "--migrate-only" in refused.stderr
    assert tables(postgres_server, url) == 0, "it migrated nothing"
    assert run(env, "--migrate-only").returncode == 0, "the hook itself migrates, though the variable is set"
    stop(ready(env))


def test_with_the_hook_a_newer_schema_is_fine_and_ready(tmp_path, postgres_server):
    url = postgres_server.new_database()
    env = environ(tmp_path / "data", url, CERTCTL_MIGRATIONS_VIA_HOOK="true")
    assert run(env, "--migrate-only").returncode == 0
    postgres_server.sql("UPDATE alembic_version SET version_num = '9999'", url.rpartition("/")[2])
    process = ready(env)
    try:
        port = env["CERTCTL_SERVER_PORT"]
        asked = subprocess.run(
            ["curl", "-sk", "--max-time", "20", f"https://127.0.0.1:{port}/ready"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert json.loads(asked.stdout)["status"] == "ready", asked.stdout
    finally:
        stop(process)


@pytest.mark.parametrize("value", ["perhaps", "2"])
def test_a_flag_that_is_none_is_named(tmp_path, value):
    ended = run(environ(tmp_path / "data", CERTCTL_MIGRATIONS_VIA_HOOK=value))
    assert ended.returncode == 4
    assert "CERTCTL_MIGRATIONS_VIA_HOOK" in ended.stderr


def test_killed_in_the_middle_of_a_migration_it_does_it_again(tmp_path, database_url, request):
    env = environ(tmp_path / "data", database_url)
    peer = (sys.executable, str(PEER))
    killed = run(env | {"DIE_AT": "commit.migrate.before"}, "--migrate-only", command=peer)
    assert killed.returncode == -signal.SIGKILL
    if database_url.startswith("postgres"):
        assert tables(request.getfixturevalue("postgres_server"), database_url) == 0, "all of it or nothing"
    again = run(env, "--migrate-only")
    assert again.returncode == 0, again.stderr
    if not database_url.startswith("postgres"):
        with sqlite3.connect(database_url.removeprefix("sqlite:///")) as opened:
            assert opened.execute("SELECT version_num FROM alembic_version").fetchone() == (migrate.head(),)
        opened.close()


def test_two_servers_boot_at_once_on_an_empty_database(tmp_path, postgres_server):
    url = postgres_server.new_database()
    environs = [environ(tmp_path / name, url) for name in ("one", "two")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "certctl.cli.server"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for env in environs
    ]
    watchdogs = [threading.Timer(90, process.kill) for process in processes]
    try:
        for watchdog in watchdogs:
            watchdog.start()
        for process in processes:
            said = []
            for line in process.stdout:
                said.append(line)
                if '"ready"' in line:
                    break
            assert '"ready"' in said[-1], "".join(said)
        database = url.rpartition("/")[2]
        assert postgres_server.sql("SELECT count(*) FROM ca_certificates", database) == "2", "one root, one issuing CA"
    finally:
        for watchdog, process in zip(watchdogs, processes, strict=True):
            watchdog.cancel()
            stop(process)


def test_a_server_waits_for_its_database_as_long_as_told(tmp_path, postgres_server):
    port = free_port()
    url = postgres_server.new_database()
    late = url.replace(f":{postgres_server.port}/", f":{port}/")
    env = environ(tmp_path / "data", late, CERTCTL_DATABASE_WAIT="60s")
    process = subprocess.Popen(
        [sys.executable, "-m", "certctl.cli.server", "--migrate-only"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(80, process.kill)
    watchdog.start()
    forward = None
    try:
        for line in process.stdout:
            if "waiting_for_database" in line:
                break
        forward = subprocess.Popen([sys.executable, "-c", FORWARD, str(port), str(postgres_server.port)])
        assert process.wait(80) == 0, process.stdout.read()
    finally:
        watchdog.cancel()
        process.stdout.close()
        if forward is not None:
            forward.kill()
            forward.wait(10)
    assert tables(postgres_server, url) > 1


FORWARD = """
import asyncio, sys
async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data); await writer.drain()
    writer.close()
async def serve(reader, writer):
    there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    async with asyncio.timeout(90):
        await server.serve_forever()
asyncio.run(main())
"""


def test_the_sql_of_a_way_back_runs_and_the_way_forth_again(tmp_path, postgres_server):
    url = postgres_server.new_database()
    env = environ(tmp_path / "data", url)
    assert run(env, "--migrate-only").returncode == 0
    before = tables(postgres_server, url)
    back = run({"PATH": os.environ["PATH"]}, "migrate", "down", "--to", "base", "--sql")
    assert back.returncode == 0, back.stderr
    subprocess.run(
        ["psql", "-v", "ON_ERROR_STOP=1", "-q", url],
        input=back.stdout,
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    left = postgres_server.sql(
        "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'", url.rpartition("/")[2]
    )
    assert left in {"", "alembic_version"}
    assert run(env, "--migrate-only").returncode == 0
    assert tables(postgres_server, url) == before


def test_a_way_back_to_nowhere_is_refused():
    ended = run(dict(os.environ), "migrate", "down", "--to", "0099x", "--sql")
    assert ended.returncode == 4
    assert "0099x" in ended.stderr
    assert run(dict(os.environ), "migrate", "down", "--to", "base").returncode == 2, "it never runs by itself"
