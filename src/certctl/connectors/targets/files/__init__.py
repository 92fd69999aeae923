"""Plain files for any program that reads a pair: put in place as one, with an action of the host's if one is named.

With an endpoint the result is seen by handshakes as with every server. Without one nobody can say what is served: the
bytes are read back from disk and the receipt says `seen_by: files`. Must never call that more than it is.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from certctl.connectors.host.fileconfig import KEY, LEAF, PairOrPemConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget
from certctl.connectors.host.pair import check_files_match
from certctl.core.errors import Malformed, Rejected, TrustError

__all__ = ["FilesConfig", "FilesTarget"]


class FilesConfig(PairOrPemConfig, frozen=True, kw_only=True):
    """Configuration of plain files: a pair, or `pem_path` alone; actions and endpoint as there are any."""

    server_name: ClassVar[str] = "the reader of the files"
    action_prefix: ClassVar[str] = "files"
    needs_endpoint: ClassVar[bool] = False

    endpoint: str = ""


class FilesServer(FileServer[FilesConfig]):
    """Nothing is known of the program, so with an endpoint the longest overlap of the known ones (0.3 s) is assumed."""

    unbroken_seconds: ClassVar[float] = 0.3

    @property
    def seen_by(self) -> str:  # type: ignore[override]  # here it depends on whether there is an endpoint
        """How the sights are made."""
        return "handshake" if self.endpoint else "files"

    async def served(self) -> str:
        """What a handshake shows, or the certificate on disk when there is no endpoint."""
        return await super().served() if self.endpoint else await asyncio.to_thread(self.fingerprint_on_disk)

    async def confirm(self, expected: tuple[str, ...]) -> str:
        """See one of `expected` served, or read back from disk with its own key beside it. Raises Rejected."""
        if self.endpoint:
            return await super().confirm(expected)
        paths = {self.config.path_of(part): part for part in (LEAF, KEY)}
        live = {path: await asyncio.to_thread(self.read_live, part) for path, part in paths.items()}
        try:
            found = check_files_match(live, self.config.path_of(LEAF), self.config.path_of(KEY))
        except (Malformed, TrustError) as error:
            raise Rejected(f"the files in place do not belong together: {error.message}") from error
        if found not in expected:
            raise Rejected(f"{self.config.path_of(LEAF)} holds {found[:16]} and not {expected[0][:16]}")
        return found

    def trial(self, *_: object) -> str:
        """No program is known that would read one: a validate action gets the paths of the staged files."""
        return ""


class FilesTarget(FileTarget[FilesConfig]):
    """A pair of files on this host: Target, Recovers and Probes."""

    server_type = FilesServer
