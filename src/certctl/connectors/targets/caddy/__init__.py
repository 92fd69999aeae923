"""Caddy: key and certificate files that its configuration loads, `caddy validate` before and after, `caddy reload`.

`caddy validate` loads the staged pair as the server would. The host's reload action needs `--force`: the configuration
is the same text as before, and Caddy would else do nothing. The admin API is not used: it takes a whole new
configuration, which is not certctl's to write. Must never leave data in Caddy's own storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from certctl.connectors.host.fileconfig import FileSpec, PairConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget

__all__ = ["CaddyConfig", "CaddyTarget"]


class CaddyConfig(PairConfig, frozen=True, kw_only=True):
    """Configuration of a Caddy target: `cert_path` and `key_path`, or `cert_dir` with `cert_file` and `key_file`."""

    server_name: ClassVar[str] = "Caddy"
    action_prefix: ClassVar[str] = "caddy"

    mode: Literal["file"] = "file"
    cert_path: str = ""
    key_path: str = ""
    chain_path: Literal[""] = ""
    cert_dir: str = ""
    cert_file: str = "cert.pem"
    key_file: str = "key.pem"
    reload_action: str = "caddy.reload"
    validate_action: str = "caddy.validate"
    test_action: str = "caddy.test"

    def __post_init__(self) -> None:
        """One way or the other to name the files."""
        if bool(self.cert_dir) == bool(self.cert_path or self.key_path):
            raise ValueError("give cert_path and key_path, or cert_dir with cert_file and key_file")
        super().__post_init__()

    @property
    def layout(self) -> tuple[FileSpec, ...]:
        """Key and certificate, the chain in the latter: Caddy knows no file for it."""
        key = self.key_path or f"{self.cert_dir}/{self.key_file}"
        cert = self.cert_path or f"{self.cert_dir}/{self.cert_file}"
        return (FileSpec("key", key, ("key",)), FileSpec("cert", cert, ("leaf", "chain")))


class CaddyServer(FileServer[CaddyConfig]):
    """`caddy reload` answers when the new configuration runs, while the old one's listeners are still closing.

    Both accept for that moment: unbroken sights for 0.3 s outlast it.
    """

    unbroken_seconds: ClassVar[float] = 0.3

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """A configuration (JSON) that loads the pair and listens nowhere."""
        load = [{"certificate": staged["leaf"], "key": staged["key"]}]
        trial = {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(folder / "storage")},
            "apps": {"tls": {"certificates": {"load_files": load}}},
        }
        return msgspec.json.encode(trial).decode()


class CaddyTarget(FileTarget[CaddyConfig]):
    """One Caddy on this host: Target, Recovers and Probes."""

    server_type = CaddyServer
