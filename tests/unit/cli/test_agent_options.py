"""`certctl-agent` says its release wherever it is asked to, and does no more."""

from __future__ import annotations

import pytest

from certctl import __version__
from certctl.cli import agent


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--state-dir", "/nowhere", "--version"],
        ["-name", "web-1", "--version"],
        ["run", "--version"],
        ["enrol", "--state-dir", "/nowhere", "--version"],
        ["status", "--version"],
        ["doctor", "--version"],
    ],
)
def test_version_is_told_and_nothing_is_run(arguments, capsys, monkeypatch):
    monkeypatch.setattr(agent, "_execute", lambda *_more, **_options: pytest.fail("something was run"))
    with pytest.raises(SystemExit) as ended:
        agent.main(arguments)
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"certctl-agent {__version__}\n"
