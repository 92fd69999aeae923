"""The running NGINX as the swap sees it: would it take these files, tell it to read them, is the new one served.

Staged files are tried in a configuration of their own, so that the files to come are judged and not the old ones. What
is served is seen by fresh handshakes, never taken from the reload's exit code. Must never run anything but the host's
own actions.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.command import run_action
from certctl.connectors.host.paths import file_error
from certctl.connectors.probe import probe_tls, split_endpoint
from certctl.connectors.targets.nginx.config import NginxConfig, check_nginx_path
from certctl.core.errors import Misconfigured, Rejected, Temporary
from certctl.telemetry.points import reach

TRIAL_PREFIX = "trial-"

# On a reload the master starts new workers, sleeps 100 ms, then retires the old ones (ngx_master_process_cycle): both
# accept meanwhile. Only sights of the new certificate that nothing broke for longer than that are proof.
_UNBROKEN_SECONDS = 0.3
_SIGHT_PAUSE_SECONDS = 0.02
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.25
_ONE_PROBE = timedelta(seconds=3)
# sun_path holds 108 bytes with its NUL (unix(7)).
_LONGEST_SOCKET_PATH = 107

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
    ssl_certificate "{cert}";
    ssl_certificate_key "{key}";
{chain}  }}
}}
"""


class NginxServer:
    """One NGINX server behind one endpoint, asked for one name."""

    def __init__(
        self, config: NginxConfig, allow: AllowFile, policy: DialPolicy, trial_folder: Path, endpoint: str, sni: str
    ) -> None:
        self._config = config
        self._allow = allow
        self._policy = policy
        self._trial_folder = trial_folder
        self._host, self._port = split_endpoint(endpoint)
        self.endpoint = endpoint
        self.sni = sni
        self.actions_run: list[str] = []

    async def validate(self, staged: Mapping[str, str]) -> None:
        """Let NGINX itself load the staged files. Raises Rejected with what it said."""
        folder = self._make_trial_folder()
        try:
            trial = folder / "nginx.conf"
            chain = staged.get(self._config.chain_path, "")
            trial.write_text(
                _TRIAL_CONFIG.format(
                    folder=folder,
                    cert=staged[self._config.cert_path],
                    key=staged[self._config.key_path],
                    chain=f'    ssl_trusted_certificate "{chain}";\n' if chain else "",
                )
            )
            values = {"staged_config": str(trial), "cert_path": staged[self._config.cert_path]}
            values["key_path"] = staged[self._config.key_path]
            if chain:
                values["chain_path"] = chain
            await self._run(self._config.validate_action, values)
        except OSError as error:
            raise file_error(error, f"the trial configuration in {folder}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # recovery removes what could not be removed here

    async def activate(self) -> None:
        """Test the live configuration where the host allows that, then reload. Raises Rejected, Misconfigured."""
        if self._allow.allows_action(self._config.test_action):
            await self._run(self._config.test_action, self._live_paths())
            reach("nginx.tested")
        await self._run(self._config.reload_action, self._live_paths())

    async def confirm(self, expected: tuple[str, ...]) -> str:
        """Look until fresh handshakes show one of `expected`, and nothing else, for longer than old workers may live.

        Raises Rejected when something else is served to the end, Temporary when nothing answers.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.probe_span.total_seconds()
        pause, since, seen, problem = _FIRST_PAUSE_SECONDS, 0.0, "", ""
        while True:
            try:
                now = await self.served()
                since = since if now == seen and since else loop.time()
                seen, problem = now, ""
            except (Temporary, Rejected) as error:
                since, seen, problem = 0.0, "", error.message
            if seen in expected and loop.time() - since >= _UNBROKEN_SECONDS:
                return seen
            if loop.time() > deadline:
                break
            await asyncio.sleep(_SIGHT_PAUSE_SECONDS if seen in expected else pause)
            if seen not in expected:
                pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)
        span = f"{self._config.probe_span.total_seconds():g} s"
        if problem:
            raise Temporary(f"nothing could be seen at {self.endpoint} within {span}: {problem}")
        raise Rejected(
            f"{self.endpoint} (asked for {self.sni or 'no name'}) serves {seen[:16]} and not {expected[0][:16]} after "
            f"{span}; see that NGINX reads {self._config.cert_path} for that name and address, or set endpoint and sni"
        )

    async def served(self) -> str:
        """Fingerprint of what one handshake shows now. Raises ConnectorError."""
        span = min(_ONE_PROBE, self._config.probe_span)
        return (await probe_tls(self._host, self._port, self.sni, self._policy, span)).fingerprint_sha256

    async def _run(self, action: str, values: Mapping[str, str]) -> None:
        await run_action(self._allow, action, values)
        self.actions_run.append(action)

    def _live_paths(self) -> dict[str, str]:
        paths = {"cert_path": self._config.cert_path, "key_path": self._config.key_path}
        return {**paths, "chain_path": self._config.chain_path} if self._config.chain_path else paths

    def _make_trial_folder(self) -> Path:
        """A private folder (0700) short enough for a socket's path; it holds names of files only."""
        parent = str(self._trial_folder)
        fits = len(parent.encode()) + len(TRIAL_PREFIX) + 12 < _LONGEST_SOCKET_PATH
        try:
            folder = Path(tempfile.mkdtemp(prefix=TRIAL_PREFIX, dir=parent if fits else None))
            check_nginx_path(str(folder))
        except OSError as error:
            raise file_error(error, f"a trial folder in {parent}") from error
        except ValueError as error:
            raise Misconfigured(f"the state folder cannot be used with NGINX: {error}") from error
        return folder
