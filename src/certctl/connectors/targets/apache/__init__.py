"""Apache httpd: a key and certificate pair, or one file for SSLCertificateFile; `apache2 -t`, then a graceful restart.

`apache2 -t` reads the directives and sees that the files are there, but compares no key with its certificate: that is
done by our own check of the staged files. A graceful restart over a wrong configuration, or over half a pair, ends the
whole server: the host should allow the test action, which runs first, and one file (`pem_path`) is never half replaced.
Must never load code of a server's choice: the trial configuration names no module, the host's action does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from certctl.connectors.host.fileconfig import PairOrPemConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget

__all__ = ["ApacheConfig", "ApacheTarget"]

_TRIAL_CONFIG = """\
ServerRoot "{folder}"
ServerName trial.invalid
PidFile "{folder}/pid"
ErrorLog "{folder}/error.log"
<VirtualHost 127.0.0.1:443>
  SSLEngine on
  SSLCertificateFile "{leaf}"
  SSLCertificateKeyFile "{key}"
{chain}</VirtualHost>
"""


class ApacheConfig(PairOrPemConfig, frozen=True, kw_only=True):
    """Configuration of an Apache target.

    A pair, or `pem_path` alone. Without `chain_path` the whole chain goes into `cert_path`, as SSLCertificateFile takes
    it since 2.4.8; with it the chain is for SSLCertificateChainFile. `endpoint` is asked for `sni` (default: the
    certificate's first DNS name).
    """

    server_name: ClassVar[str] = "Apache"
    action_prefix: ClassVar[str] = "apache"

    reload_action: str = "apache.reload"
    validate_action: str = "apache.validate"
    test_action: str = "apache.test"


class ApacheServer(FileServer[ApacheConfig]):
    """A graceful restart tells old children over a pipe to stop accepting, then starts new ones with the new files.

    An old child may take a connection until it has read the pipe: unbroken sights for 0.3 s are longer than that.
    """

    unbroken_seconds: ClassVar[float] = 0.3

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """One TLS host that nobody listens for: `-t` opens no socket."""
        chain = f'  SSLCertificateChainFile "{staged["chain"]}"\n' if staged["chain"] != staged["leaf"] else ""
        return _TRIAL_CONFIG.format(folder=folder, leaf=staged["leaf"], key=staged["key"], chain=chain)


class ApacheTarget(FileTarget[ApacheConfig]):
    """One Apache server on this host: Target, Recovers and Probes."""

    server_type = ApacheServer
