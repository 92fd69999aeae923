"""The configurations of the targets that put files in place, and plain files without anybody to look at."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certctl.connectors.base.config import decode_config
from certctl.connectors.base.target import Material, Recovers
from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import AllowedAction, AllowFile
from certctl.connectors.host.fileconfig import PairConfig
from certctl.connectors.registry import TARGETS, check_target_config, open_target, target_config_schema
from certctl.connectors.targets.caddy import CaddyConfig
from certctl.connectors.targets.dovecot import DovecotConfig
from certctl.connectors.targets.haproxy import RUNTIME_ACTION, HaproxyConfig
from certctl.connectors.targets.postfix import PostfixConfig
from certctl.core.errors import Malformed, Misconfigured, Rejected
from peers.nginx import fingerprint, make_pair

PAIR = {"cert_path": "/etc/tls/a.pem", "key_path": "/etc/tls/a.key"}
PEM = {"pem_path": "/etc/tls/all.pem"}
LEAST: dict[str, dict[str, Any]] = {
    "NGINX": PAIR,
    "Apache": PAIR,
    "HAProxy": PEM,
    "Postfix": PAIR,
    "Dovecot": PAIR,
    "Caddy": PAIR,
    "Files": PEM,
}


def test_every_target_is_here() -> None:
    assert {entry.kind for entry in TARGETS} == set(LEAST)


@pytest.mark.parametrize("kind", LEAST)
def test_the_least_is_enough_and_commands_are_refused(kind: str) -> None:
    check_target_config(kind, LEAST[kind])
    check_target_config(kind, {**LEAST[kind], "probe_timeout": "1m30s", "endpoint": "[::1]:443", "sni": "a.example"})
    assert "$defs" in target_config_schema(kind)
    for field, action in (("reload_command", "reload"), ("validate_command", "validate")):
        with pytest.raises(Malformed, match=rf'allow-file .*\[action."{kind.lower()}.{action}"\]'):
            check_target_config(kind, {**LEAST[kind], field: "true"})


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("Postfix", {}, "give cert_path and key_path, or pem_path"),
        ("Postfix", {**PAIR, **PEM}, "leave the other paths out"),
        ("Postfix", {**PAIR, "starttls": "ldap"}, "starttls"),
        ("Postfix", {**PAIR, "mode": "dovecot"}, "mode"),
        ("Dovecot", {"cert_path": "/a"}, "give cert_path and key_path"),
        ("Dovecot", {"pem_path": "/a b#c"}, "mean something to Dovecot"),
        ("HAProxy", {**PEM, "pem_file_mode": "0644"}, "lets everybody at the private key"),
        ("HAProxy", {**PEM, "runtime_socket": "run/s"}, "no plain absolute path"),
        ("HAProxy", PAIR, "cert_path is not known"),
        ("Caddy", {**PAIR, "cert_dir": "/etc/tls"}, "give cert_path and key_path, or cert_dir"),
        ("Caddy", {"cert_dir": "/etc/tls", "cert_file": "../a.pem"}, "no plain absolute path"),
        ("Caddy", {**PAIR, "chain_path": "/c"}, "chain_path"),
        ("Apache", {**PAIR, "endpoint": ""}, "no endpoint"),
        ("Files", {**PEM, "endpoint": "here"}, "no endpoint"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(kind: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(Malformed, match=told):
        check_target_config(kind, config)


def test_defaults_say_how_to_look() -> None:
    assert decode_config(PostfixConfig, PAIR).starttls == "smtp"
    assert decode_config(DovecotConfig, PAIR).starttls == "imap"
    assert decode_config(DovecotConfig, PAIR).probe_span == timedelta(seconds=10)


def test_which_file_holds_what() -> None:
    chain = decode_config(PairConfig, {**PAIR, "chain_path": "/etc/tls/c.pem"}).layout
    assert [(file.role, file.parts) for file in chain] == [
        ("key", ("key",)),
        ("cert", ("leaf",)),
        ("chain", ("chain",)),
    ]
    assert decode_config(PostfixConfig, PEM).layout[0].parts == ("key", "leaf", "chain")
    assert decode_config(HaproxyConfig, PEM).layout[0].parts == ("leaf", "chain", "key")
    caddy = decode_config(CaddyConfig, {"cert_dir": "/etc/tls", "cert_file": "a.pem", "key_file": "a.key"})
    assert [file.path for file in caddy.layout] == ["/etc/tls/a.key", "/etc/tls/a.pem"]


def test_the_runtime_api_needs_the_hosts_leave() -> None:
    config = decode_config(HaproxyConfig, {**PEM, "runtime_socket": "/run/haproxy.sock"})
    validate = {"haproxy.validate": AllowedAction("haproxy.validate", ("/bin/true",))}
    with pytest.raises(Misconfigured, match=r'\[\[socket\]\]\npath = "/run/haproxy.sock"'):
        config.actions(AllowFile(path=Path("/a"), actions=validate))
    allow = AllowFile(path=Path("/a"), actions=validate, sockets=(Path("/run/haproxy.sock"),))
    assert config.actions(allow) == ("haproxy.validate", RUNTIME_ACTION)


class TestFilesWithoutEndpoint:
    """Nobody looks: the receipt says that it was the bytes on disk."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> Material:
        certificate_pem, key_pem = make_pair()
        (tmp_path / "new.key").write_bytes(key_pem)
        return Material("mc-1", "cv-1", certificate_pem, "", tmp_path / "new.key", fingerprint(certificate_pem), "a")

    def open(self, tmp_path: Path, **config: Any) -> Any:
        (tmp_path / "tls").mkdir(exist_ok=True)
        actions = {"files.refuse": AllowedAction("files.refuse", ("/bin/false",))}
        return open_target(
            "files",
            {"pem_path": str(tmp_path / "tls/all.pem"), **config},
            allow=AllowFile(path=tmp_path / "allow.toml", folders=(tmp_path / "tls",), actions=actions),
            state_dir=tmp_path / "state",
            dial_policy=DialPolicy("agent.probe"),
        )

    async def test_the_receipt_says_so(self, tmp_path: Path, pair: Material) -> None:
        target = self.open(tmp_path)
        plan = await target.plan(pair, "dep-1")
        assert "nobody looks" in plan.summary[-1]
        assert plan.actions == ()
        receipt = await target.apply(plan, pair)
        assert receipt.seen_by == "files"
        assert receipt.served_before == ""
        assert receipt.served_after == pair.fingerprint_sha256 == await target.served()
        assert (tmp_path / "tls/all.pem").stat().st_mode & 0o777 == 0o600
        assert (await target.apply(plan, pair)).skipped_as_identical
        assert isinstance(target, Recovers)

    async def test_a_failing_action_puts_the_old_bytes_back(self, tmp_path: Path, pair: Material) -> None:
        target = self.open(tmp_path, reload_action="files.refuse")
        plan = await target.plan(pair, "dep-1")
        with pytest.raises(Rejected, match=r"files\.refuse failed"):
            await target.apply(plan, pair)
        assert not (tmp_path / "tls/all.pem").exists()
        assert list((tmp_path / "tls").iterdir()) == []
