"""Several real server processes on one PostgreSQL, each with ports and a data directory of its own, and a journal of what they do.

The journal is written by triggers in the database itself, so that it counts what was committed, not what somebody says.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from peers.ports import free_port
from peers.postgres import Postgres

HERE = Path(__file__).resolve().parent
ENCRYPTION_KEY = "a key for tests only, of enough length"
BOOTSTRAP_TOKEN = "bootstrap-for-tests-only"

_JOURNAL = """
CREATE TABLE step_log (n bigserial, id text, kind text, status text, fence bigint, attempts int, owner text, lease_until timestamptz,
                       released_by text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION log_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'INSERT' OR NEW.status IS DISTINCT FROM OLD.status OR NEW.fence IS DISTINCT FROM OLD.fence THEN
    INSERT INTO step_log (id, kind, status, fence, attempts, owner, lease_until, released_by)
      VALUES (NEW.id, NEW.kind, NEW.status, NEW.fence, NEW.attempts, NEW.lease_owner, NEW.lease_until,
              CASE WHEN NEW.status = 'ready' AND NEW.fence > 0 THEN current_query() END);
  END IF;
  RETURN NULL; END $$;
CREATE TRIGGER log_step AFTER INSERT OR UPDATE ON steps FOR EACH ROW EXECUTE FUNCTION log_step();
CREATE TABLE tick_log (n bigserial, name text, fence bigint, owner text, taken_at timestamptz, next_at timestamptz);
CREATE FUNCTION log_tick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.fence IS DISTINCT FROM OLD.fence THEN
    INSERT INTO tick_log (name, fence, owner, taken_at, next_at)
      VALUES (NEW.name, NEW.fence, NEW.lease_owner, NEW.last_run_at, NEW.next_run_at);
  END IF;
  RETURN NULL; END $$;
CREATE TRIGGER log_tick AFTER UPDATE ON ticks FOR EACH ROW EXECUTE FUNCTION log_tick();
"""


def csr_for(name: str) -> str:
    """A CSR for one name under a fresh key."""
    return csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name])))


class Replica:
    """One certctl-server. `inside` is where it and calls to it live (a network namespace), `source` another release's `src`."""

    def __init__(
        self,
        directory: Path,
        database_url: str,
        *,
        inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        source: Path | None = None,
        **environ: str,
    ) -> None:
        self.directory = directory
        self.port, self.pki_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.arm_file = directory / "arm"
        self._inside = inside
        self._source = source
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        self.environ = inherited | {
            "PYTHONPATH": str(source) if source else str(HERE.parent),
            "CERTCTL_DATA_DIR": str(directory / "data"),
            "CERTCTL_SERVER_PORT": str(self.port),
            "CERTCTL_PKI_HTTP_PORT": str(self.pki_port),
            "CERTCTL_DATABASE_URL": database_url,
            "CERTCTL_DATABASE_MAX_CONNS": "8",
            "CERTCTL_CONFIG_ENCRYPTION_KEY": ENCRYPTION_KEY,
            "CERTCTL_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
            "CERTCTL_LOG_FORMAT": "text",
            "ARM_FILE": str(self.arm_file),
            **environ,
        }

    def spawn(self) -> None:
        """Start it without waiting."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [str(HERE / "replica_process.py")] if self._source is None else ["-m", "certctl.cli.server"]
        with (self.directory / "log").open("ab") as log, self._inside():
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> None:
        self.spawn()
        self.wait(self.ready, "the server is ready")

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log()}"
        with contextlib.suppress(OSError, httpx.HTTPError):
            return self.call("GET", "/ready").status_code == 200
        return False

    def call(self, method: str, path: str, body: Any = None, key: str = "", timeout: float = 60) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(self.directory / "data" / "ca.pem"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            self._inside(),
            httpx.Client(verify=context, timeout=timeout, headers=headers, trust_env=False) as client,
        ):
            return client.request(method, f"https://localhost:{self.port}{path}", json=body)

    def did(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """The body of an answer that must be a success."""
        answer = self.call(method, path, body, key)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}\n{self.log()}"
        return answer.json() if answer.content else None

    def pki(self, path: str) -> bytes:
        """What its plain-HTTP listener serves."""
        with self._inside(), httpx.Client(timeout=30, trust_env=False) as client:
            return client.get(f"http://127.0.0.1:{self.pki_port}/.well-known/pki/{path}").raise_for_status().content

    def wait(self, done: Callable[[], Any], what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.log()}"
            time.sleep(0.05)

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()


class Replicas:
    """A growing row of them on one database."""

    def __init__(self, directory: Path, postgres: Postgres, url: str = "", *, journals: bool = True) -> None:
        """`journals`: False for whoever measures, since each trigger costs the database something."""
        self.directory = directory
        self.postgres = postgres
        self._journals = journals
        self.url = url or postgres.new_database()
        self.database = self.url.partition("?")[0].rpartition("/")[2]
        self.all: list[Replica] = []
        self.key = ""

    def add(self, **more: Any) -> Replica:
        """One more, started; the first brings up the schema, the journal and the first key."""
        made = Replica(self.directory / f"replica-{len(self.all) + 1}", self.url, **more)
        self.all.append(made)
        made.start()
        if not self.key:
            if self._journals:
                self.postgres.sql(_JOURNAL, self.database)
            told = {"token": BOOTSTRAP_TOKEN, "actor_name": "tester"}
            self.key = made.did("POST", "/api/v1/auth/bootstrap", told)["key_value"]
        return made

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        """Rows as text, from the database itself."""
        return [tuple(line.split("|")) for line in self.postgres.sql(sql, self.database).splitlines()]

    def count(self, sql: str) -> int:
        return int(self.postgres.sql(f"SELECT count(*) {sql}", self.database))

    def stop(self) -> None:
        for replica in self.all:
            if replica.process is not None and replica.process.poll() is None:
                replica.process.terminate()
        for replica in self.all:
            replica.stop()


@contextlib.contextmanager
def replicas(directory: Path, postgres: Postgres, url: str = "", *, journals: bool = True) -> Iterator[Replicas]:
    """Replicas for the length of the block; every process is stopped by its own pid."""
    made = Replicas(directory, postgres, url, journals=journals)
    try:
        yield made
    finally:
        made.stop()
