"""NGINX: key and certificate files, `nginx -t` on a trial configuration before and on the live one after, a reload.

Must never name a command: the three actions are the host's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from certctl.connectors.host.fileconfig import PairConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget

__all__ = ["NginxConfig", "NginxTarget"]

_TRIAL_CONFIG = """\
pid "{folder}/pid";
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path "{folder}/body";
  proxy_temp_path "{folder}/proxy";
  fastcgi_temp_path "{folder}/fastcgi";
  uwsgi_temp_path "{folder}/uwsgi";
  scgi_temp_path "{folder}/scgi";
  server {{
    listen "unix:{folder}/s" ssl;
    ssl_certificate "{leaf}";
    ssl_certificate_key "{key}";
{chain}  }}
}}
"""


class NginxConfig(PairConfig, frozen=True, kw_only=True):
    """Configuration of an NGINX target.

    Without `chain_path` the whole chain goes into `cert_path`, as `ssl_certificate` wants it. `endpoint` (host:port) is
    looked at to see what is served, asking for `sni` (default: the certificate's first DNS name). Modes are octal text.
    """

    server_name: ClassVar[str] = "NGINX"
    action_prefix: ClassVar[str] = "nginx"

    reload_action: str = "nginx.reload"
    validate_action: str = "nginx.validate"
    test_action: str = "nginx.test"
    test: str = ""

    def refuse_commands(self, *more: tuple[str, str]) -> None:
        """NGINX has one more of the reference product's commands."""
        super().refuse_commands(("test", "test"), *more)


class NginxServer(FileServer[NginxConfig]):
    """On a reload the master starts new workers, sleeps 100 ms, then retires the old ones (ngx_master_process_cycle).

    Both accept meanwhile: only sights of the new certificate that nothing broke for longer than that are proof.
    """

    unbroken_seconds: ClassVar[float] = 0.3

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """One TLS server on a socket in `folder`."""
        chain = f'    ssl_trusted_certificate "{staged["chain"]}";\n' if staged["chain"] != staged["leaf"] else ""
        return _TRIAL_CONFIG.format(folder=folder, leaf=staged["leaf"], key=staged["key"], chain=chain)


class NginxTarget(FileTarget[NginxConfig]):
    """One NGINX server on this host: Target, Recovers and Probes."""

    server_type = NginxServer
