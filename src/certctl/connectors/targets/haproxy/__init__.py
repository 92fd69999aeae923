"""HAProxy: one file with certificate, chain and key; a reload, or without one through its runtime API.

With `runtime_socket` the new pair is sent over HAProxy's own socket (`set ssl cert`, `commit ssl cert`) and also put
into `pem_path` for its next start; the host's allow-file must name the socket. Must never send anything else there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from certctl.connectors.dial import dial_unix
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.fileconfig import CHAIN, KEY, LEAF, FileSpec, Mode, ServerConfig, check_plain_path
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary

__all__ = ["HaproxyConfig", "HaproxyTarget"]

RUNTIME_ACTION = "haproxy.runtime-api"
_RUNTIME_TIMEOUT = timedelta(seconds=10)
_MOST_ANSWER_BYTES = 64 * 1024

_TRIAL_CONFIG = """\
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend trial
  bind "unix@{folder}/s" ssl crt "{pem}"
"""


class HaproxyConfig(ServerConfig, frozen=True, kw_only=True):
    """Configuration of an HAProxy target. `pem_path` is the file as the `crt` of its `bind` line names it.

    `runtime_socket` is the path of HAProxy's `stats socket` (level admin); empty reloads instead.
    """

    server_name: ClassVar[str] = "HAProxy"
    action_prefix: ClassVar[str] = "haproxy"

    pem_path: str
    pem_file_mode: Mode = "0600"
    pem_file_owner: str = ""
    pem_file_group: str = ""
    reload_action: str = "haproxy.reload"
    validate_action: str = "haproxy.validate"
    test_action: str = "haproxy.test"
    runtime_socket: str = ""

    def __post_init__(self) -> None:
        """A socket's path must be plain too."""
        super().__post_init__()
        if self.runtime_socket:
            check_plain_path(self.runtime_socket, self.server_name)

    @property
    def layout(self) -> tuple[FileSpec, ...]:
        """One file for all."""
        return (FileSpec("pem", self.pem_path, (LEAF, CHAIN, KEY)),)

    def actions(self, allow: AllowFile) -> tuple[str, ...]:
        """As ever, but the runtime API stands in for the reload."""
        actions = super().actions(allow) if not self.runtime_socket else ()
        if self.runtime_socket:
            allow.socket(self.runtime_socket)
            tests = (self.test_action,) if self.test_action and allow.allows_action(self.test_action) else ()
            actions = (allow.action(self.validate_action).name, *tests, RUNTIME_ACTION)
        return actions


class HaproxyServer(FileServer[HaproxyConfig]):
    """After a reload the new worker listens before the old ones, told by SIGUSR1, stop: 0.3 s unbroken outlast that.

    The runtime API exchanges the certificate within the one running process before it answers: there no old worker can
    serve, and the first sight is proof.
    """

    @property
    def unbroken_seconds(self) -> float:  # type: ignore[override]  # here it depends on the way chosen
        """How long the sights must be unbroken."""
        return 0.0 if self.config.runtime_socket else 0.3

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """One frontend on a socket in `folder`."""
        return _TRIAL_CONFIG.format(folder=folder, pem=staged["leaf"])

    async def reload(self) -> None:
        """Reload, or hand over the file's bytes by the runtime API. Raises Rejected with what HAProxy said."""
        if not self.config.runtime_socket:
            await super().reload()
            return
        pem = await asyncio.to_thread(self.read_live, LEAF)
        if pem is None:
            raise Misconfigured(f"{self.config.pem_path} is missing")
        name = self.config.pem_path.replace(" ", "\\ ")
        # An empty line would end the payload before its end.
        payload = "\n".join(line for line in pem.decode("ascii", errors="replace").splitlines() if line.strip())
        try:
            await self._tell(f"set ssl cert {name} <<\n{payload}\n", "ransaction ")
            await self._tell(f"commit ssl cert {name}", "Success!")
        except ConnectorError:
            await self._ask(f"abort ssl cert {name}")
            raise
        self.actions_run.append(RUNTIME_ACTION)

    async def _tell(self, command: str, success: str) -> None:
        answer = await self._ask(command)
        if success not in answer:
            words = " ".join(command.split()[:3])
            raise Rejected(f"HAProxy refused {words!r}: {' '.join(answer.split())[:300] or 'it said nothing'}")

    async def _ask(self, command: str) -> str:
        """One command on a connection of its own; HAProxy closes it after its answer."""
        path = self.allow.socket(self.config.runtime_socket)
        reader, writer = await dial_unix(path, _RUNTIME_TIMEOUT)
        try:
            async with asyncio.timeout(_RUNTIME_TIMEOUT.total_seconds()):
                writer.write(command.encode() + b"\n")
                await writer.drain()
                answer = b""
                while len(answer) < _MOST_ANSWER_BYTES and (more := await reader.read(4096)):
                    answer += more
        except (OSError, TimeoutError) as error:
            raise Temporary(f"HAProxy broke off at {path}: {error or 'no answer in time'}") from error
        finally:
            writer.transport.abort()
        return answer.decode(errors="replace")


class HaproxyTarget(FileTarget[HaproxyConfig]):
    """One HAProxy on this host: Target, Recovers and Probes."""

    server_type = HaproxyServer
