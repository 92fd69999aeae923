"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from peers.postgres import Postgres, postgres

# how long an example takes says more of the machine than of the code
hypothesis.settings.register_profile("certctl", deadline=None)
hypothesis.settings.load_profile("certctl")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One private PostgreSQL a test process."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path) -> str:
    """A fresh, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/certctl.db"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.new_database()


def pytest_collection_finish(session):
    """Tests that share a costly fixture run in one worker: a pytest that does not hear of it says so at once."""
    if getattr(session.config.option, "loadgroup", False):
        marked = [item for item in session.items if item.get_closest_marker("xdist_group")]
        deaf = [item.nodeid for item in marked if "@" not in item.nodeid]
        if deaf:
            raise pytest.UsageError(f"xdist_group is not heard by this pytest: {deaf[0]} and {len(deaf) - 1} more")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Under CI a missing peer is a failure, never a skip."""
    outcome = yield
    report = outcome.get_result()
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"


@pytest.fixture(autouse=True)
def umask_kept() -> Iterator[None]:
    """A program that is run within a test's own process may narrow it, and servers of later tests could not be read."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
