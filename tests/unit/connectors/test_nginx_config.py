"""The NGINX target's configuration, as people may write it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from certctl.connectors.base.config import decode_config, parse_mode
from certctl.connectors.registry import target_config_schema
from certctl.connectors.targets.nginx import NginxConfig
from certctl.core.errors import Malformed

LEAST = {"cert_path": "/etc/nginx/tls/a.pem", "key_path": "/etc/nginx/tls/a.key"}


def test_the_least_is_enough() -> None:
    config = decode_config(NginxConfig, LEAST)
    assert config.endpoint == "127.0.0.1:443"
    assert config.reload_action == "nginx.reload"
    assert parse_mode(config.key_file_mode) == 0o600
    assert config.probe_span == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reload_command": "nginx -s reload"}, r'allow-file .*\[action."nginx.reload"\]'),
        ({"validate_command": "nginx -t"}, r'\[action."nginx.validate"\]'),
        ({"test": "nginx -t"}, r'\[action."nginx.test"\]'),
        ({"key_path": "********"}, "no plain absolute path"),
        ({"key_path": "/etc/../key"}, "no plain absolute path"),
        ({"key_path": "/etc/nginx/tls/a.pem"}, "three different files"),
        ({"cert_path": "/etc/$host.pem"}, "mean something to NGINX"),
        ({"cert_path": '/etc/a";}.pem'}, "mean something to NGINX"),
        ({"cert_path": "/etc/a\n.pem"}, "no plain absolute path"),
        ({"key_file_mode": "0644"}, "lets everybody at the private key"),
        ({"cert_file_mode": "rw"}, "invalid literal"),
        ({"endpoint": "somewhere"}, "is no endpoint"),
        ({"probe_timeout": "never"}, "no duration"),
        ({"probe_timeout": "0s"}, "more than 0"),
        ({"cert_paht": "/x"}, "did you mean cert_path"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Malformed, match=told):
        decode_config(NginxConfig, {**LEAST, **change})


def test_paths_are_required_and_the_schema_says_so() -> None:
    with pytest.raises(Malformed, match="key_path"):
        decode_config(NginxConfig, {"cert_path": "/a/b"})
    assert sorted(next(iter(target_config_schema("nginx")["$defs"].values()))["required"]) == ["cert_path", "key_path"]
