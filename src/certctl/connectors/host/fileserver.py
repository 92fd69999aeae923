"""A running server as the swap sees it: would it take these files, tell it to read them, is the new one served.

Staged files are judged before they are put in place: by our own pair check, and by the server's own checker where it
has one, in a trial configuration. What is served is seen by fresh handshakes, never taken from a reload's exit code.
Must never run anything but the host's own actions.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import msgspec

from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.command import run_action
from certctl.connectors.host.fileconfig import CHAIN, KEY, LEAF, ServerConfig, check_plain_path
from certctl.connectors.host.pair import check_files_match, fingerprint_of, first_dns_name, leaf_of
from certctl.connectors.host.paths import Place, file_error
from certctl.connectors.probe import Starttls, probe_tls, split_endpoint
from certctl.core.errors import Malformed, Misconfigured, Rejected, Temporary, TrustError
from certctl.telemetry.points import reach

TRIAL_PREFIX = "trial-"

_SIGHT_PAUSE_SECONDS = 0.02
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.25
_ONE_PROBE = timedelta(seconds=3)
# sun_path holds 108 bytes with its NUL (unix(7)).
_LONGEST_SOCKET_PATH = 107

ConfigT = TypeVar("ConfigT", bound=ServerConfig)


class FileServer(Generic[ConfigT]):
    """One server behind one endpoint, asked for one name. A subclass says what its server needs.

    `where` is what a journal kept (`endpoint`, `sni`, `starttls`); what is missing there comes from the configuration.
    """

    # How long nothing but the new certificate must be seen before it is believed: longer than old workers may accept
    # beside new ones. The reason is each server's own and stands at its class.
    unbroken_seconds: ClassVar[float] = 0.3
    # How this server's sights are made; the receipt says it.
    seen_by: str = "handshake"

    def __init__(
        self, config: ConfigT, allow: AllowFile, policy: DialPolicy, trial_folder: Path, where: Mapping[str, str]
    ) -> None:
        self.config = config
        self.allow = allow
        self.actions_run: list[str] = []
        self.endpoint = where.get("endpoint") or config.endpoint
        self.starttls: Starttls = _starttls(where.get("starttls", config.starttls))
        self.sni = where.get("sni") or config.sni or first_dns_name(leaf_of(self.live_certificate()))
        self._policy = policy
        self._trial_folder = trial_folder

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """A configuration that uses only the staged files (part -> path); empty when the server's checker takes none.

        Sockets and the like belong into `folder`, which is private and short-lived.
        """
        raise Misconfigured(f"{self.config.server_name} cannot try {len(staged)} files in {folder}")

    async def reload(self) -> None:
        """Tell the server to read its files again."""
        if self.config.reload_action:
            await self.run(self.config.reload_action, self.live_paths())

    async def validate(self, staged: Mapping[str, str]) -> None:
        """Judge the staged files: they belong together, and the server's own checker takes them. Raises Rejected."""
        parts = {part: staged[file.path] for file in reversed(self.config.layout) for part in file.parts}
        await asyncio.to_thread(_check_staged, parts)
        if not self.config.validate_action:
            return
        folder = self._make_trial_folder()
        try:
            trial = folder / "trial.conf"
            await asyncio.to_thread(trial.write_text, self.trial(folder, parts))
            values = {"staged_config": str(trial), **_placeholders(parts)}
            await self.run(self.config.validate_action, values)
        except OSError as error:
            raise file_error(error, f"the trial configuration in {folder}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # recovery removes what could not be removed here

    async def activate(self) -> None:
        """Test the live configuration where the host allows that, then reload.

        Raises Rejected, Misconfigured, and Temporary when the server does not answer at all.
        """
        test = self.config.test_action
        if test and self.allow.allows_action(test):
            await self.run(test, self.live_paths())
            reach("target.tested")
        try:
            await self.reload()
        except Rejected as error:
            # A server that is dead for a moment cannot be told anything: that is no verdict on the new pair.
            await self._require_sight(error)
            await self.reload()

    async def _require_sight(self, refusal: Rejected) -> None:
        try:
            await self.served()
        except Temporary as error:
            raise Temporary(
                f"{self.config.server_name} does not answer: {error.message}; {refusal.message}"
            ) from refusal

    async def confirm(self, expected: tuple[str, ...]) -> str:
        """Look until fresh handshakes show one of `expected`, and nothing else, for `unbroken_seconds`.

        Raises Rejected when something else is served to the end, Temporary when nothing answers.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.probe_span.total_seconds()
        pause, since, seen, problem = _FIRST_PAUSE_SECONDS, 0.0, "", ""
        while True:
            try:
                now = await self.served()
                since = since if now == seen and since else loop.time()
                seen, problem = now, ""
            except (Temporary, Rejected) as error:
                since, seen, problem = 0.0, "", error.message
            if seen in expected and loop.time() - since >= self.unbroken_seconds:
                return seen
            if loop.time() > deadline:
                break
            await asyncio.sleep(_SIGHT_PAUSE_SECONDS if seen in expected else pause)
            if seen not in expected:
                pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)
        span = f"{self.config.probe_span.total_seconds():g} s"
        if problem:
            raise Temporary(f"nothing could be seen at {self.endpoint} within {span}: {problem}")
        raise Rejected(
            f"{self.endpoint} (asked for {self.sni or 'no name'}) serves {seen[:16]} and not {expected[0][:16]} after "
            f"{span}; see that {self.config.server_name} reads {self.config.path_of(LEAF)} for that name and address, "
            "or set endpoint and sni"
        )

    async def served(self) -> str:
        """Fingerprint of what one handshake shows now. Raises ConnectorError."""
        host, port = split_endpoint(self.endpoint)
        span = min(_ONE_PROBE, self.config.probe_span)
        seen = await probe_tls(host, port, self.sni, self._policy, span, starttls=self.starttls)
        return seen.fingerprint_sha256

    def live_certificate(self) -> bytes | None:
        """The bytes of the file in place that holds the certificate."""
        return self.read_live(LEAF)

    def read_live(self, part: str) -> bytes | None:
        """The bytes of the file in place that holds `part`, None when there is none. Raises Misconfigured."""
        with Place.open(self.config.path_of(part), self.allow) as place:
            return place.read()

    def fingerprint_on_disk(self) -> str:
        """Fingerprint of the certificate in place, empty when there is none."""
        return fingerprint_of(self.live_certificate())

    def live_paths(self) -> dict[str, str]:
        """The values of an action's placeholders, naming the files in place."""
        return _placeholders({part: file.path for file in reversed(self.config.layout) for part in file.parts})

    async def run(self, action: str, values: Mapping[str, str]) -> None:
        """Run one of the host's actions and note it for the receipt."""
        await run_action(self.allow, action, values)
        self.actions_run.append(action)

    def _make_trial_folder(self) -> Path:
        """A private folder (0700) short enough for a socket's path; it holds names of files only."""
        parent = str(self._trial_folder)
        fits = len(parent.encode()) + len(TRIAL_PREFIX) + 12 < _LONGEST_SOCKET_PATH
        try:
            folder = Path(tempfile.mkdtemp(prefix=TRIAL_PREFIX, dir=parent if fits else None))
            check_plain_path(str(folder), self.config.server_name)
        except OSError as error:
            raise file_error(error, f"a trial folder in {parent}") from error
        except ValueError as error:
            raise Misconfigured(f"the state folder cannot be used with {self.config.server_name}: {error}") from error
        return folder


def _check_staged(parts: Mapping[str, str]) -> None:
    """Read back what was staged: the key belongs to the certificate, as they now lie on disk. Raises Rejected."""
    try:
        live: dict[str, bytes | None] = {path: Path(path).read_bytes() for path in parts.values()}
        check_files_match(live, parts[LEAF], parts[KEY])
    except OSError as error:
        raise file_error(error, "the staged files") from error
    except (Malformed, TrustError) as error:
        raise Rejected(f"the staged files do not belong together: {error.message}") from error


def _placeholders(parts: Mapping[str, str]) -> dict[str, str]:
    values = {"cert_path": parts[LEAF], "key_path": parts[KEY]}
    if parts[LEAF] == parts[KEY]:
        values["pem_path"] = parts[KEY]
    if parts.get(CHAIN, parts[LEAF]) != parts[LEAF]:
        values["chain_path"] = parts[CHAIN]
    return values


def _starttls(text: str) -> Starttls:
    """What a journal kept, as the word it is. Raises Misconfigured for a journal of another version."""
    try:
        known: Starttls = msgspec.convert(text, Starttls)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"the journal speaks of STARTTLS by {text!r}, which this version does not know") from error
    return known
