"""What docs/operator/tls.md says of TLS to PostgreSQL, against a real one that takes TLS alone."""

from __future__ import annotations

import os
import pwd
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.core.errors import Misconfigured
from certctl.store.postgres import Connector
from peers.postgres import Postgres, postgres

pytestmark = pytest.mark.real

CA = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
CSR = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=db -keyout server.key -out server.csr"
SIGN = (
    "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A cluster whose certificate names 127.0.0.1 alone, and which refuses whoever comes over TCP without TLS."""
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (CA.format(name="ca"), CA.format(name="other"), CSR, SIGN):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=30)
    with postgres() as server:
        data = server.directory / "data"
        for name in ("server.pem", "server.key"):
            (data / name).write_bytes((folder / name).read_bytes())
            (data / name).chmod(0o600)
            if os.geteuid() == 0:
                user = pwd.getpwnam("postgres")
                os.chown(data / name, user.pw_uid, user.pw_gid)
        (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
        for setting in ("ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"):
            server.sql(f"ALTER SYSTEM SET {setting}")
        server.crash()
        server.start_again()
        yield server, folder


async def session(server: Postgres, query: str, host: str = "127.0.0.1") -> str:
    """The TLS version of a session opened as `query` says."""
    url = f"postgres://certctl@{host}:{server.port}/postgres?{query}"
    connection = await Connector(url, timedelta(seconds=10)).connect()
    try:
        return str(await connection.fetchval("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await connection.close()


async def test_verify_full_proves_who_answers(database):
    server, folder = database
    assert (await session(server, f"sslmode=verify-full&sslrootcert={folder}/ca.pem")).startswith("TLSv1.")
    with pytest.raises(ConnectionError, match="certificate verify failed"):
        await session(server, f"sslmode=verify-full&sslrootcert={folder}/other.pem")
    with pytest.raises(ConnectionError, match="[Hh]ostname mismatch|doesn't match"):
        await session(server, f"sslmode=verify-full&sslrootcert={folder}/ca.pem", "localhost")


async def test_verify_ca_proves_the_signer_and_require_nobody(database):
    server, folder = database
    assert (await session(server, f"sslmode=verify-ca&sslrootcert={folder}/ca.pem", "localhost")).startswith("TLSv1.")
    with pytest.raises(ConnectionError, match="certificate verify failed"):
        await session(server, f"sslmode=verify-ca&sslrootcert={folder}/other.pem")
    assert (await session(server, "sslmode=require", "localhost")).startswith("TLSv1.")


async def test_a_server_that_takes_tls_alone_is_not_reached_without(database):
    server, _ = database
    with pytest.raises(Misconfigured, match="no encryption"):
        await session(server, "sslmode=disable")
