"""dns-01 by two programs of the operator's (the reference product's hook contract): one puts the record, one takes it.

They run without a shell, with nothing but the declared environment and CERTCTL_DNS_DOMAIN, _FQDN, _VALUE, _TOKEN, for
two minutes at most, and lie in the one folder that the host names. Must never run what others could have written there.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.command import CLEAN_ENVIRONMENT, run_program
from certctl.connectors.zones import Zones, value_of
from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret

SETTING = "CERTCTL_ISSUERS_SCRIPTS_FOLDER"
_TIMEOUT = timedelta(seconds=120)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# what changes how a program is loaded or found is the host's to say
_HOST_ALONE = re.compile(
    r"PATH|LANG|LC_.*|IFS|ENV|BASH.*|SHELLOPTS|PS4|PROMPT_COMMAND|LD_.*|GCONV_PATH|GLIBC_.*|MALLOC_.*|OPENSSL_.*"
    r"|PYTHON.*|PERL.*|RUBY.*|NODE_.*|GIT_.*|.*_HOME|HOME|XDG_.*|.*_OPTIONS|.*OPTS|CERTCTL_.*",
    re.IGNORECASE,
)
_MOST_VARIABLES = 64


class Hooks(Struct, frozen=True, kw_only=True):
    """`folder` is what the host allows (None: nothing); scripts are names or paths in it. `environment` is lines."""

    folder: Path | None
    present: str
    cleanup: str
    environment: Secret
    watched: tuple[str, ...]
    resolver: str


class ScriptSolver:
    """Runs the present script, watches for the record where the CA will look, runs the cleanup script."""

    challenge_type = "dns-01"

    def __init__(self, hooks: Hooks, policy: DialPolicy) -> None:
        if hooks.folder is None:
            raise Misconfigured(
                f"this server runs no scripts: name the folder that they lie in by {SETTING} on its host, or use "
                "another way of dns-01"
            )
        self._folder = hooks.folder
        self._present = hooks.present
        self._cleanup = hooks.cleanup
        self._environment = read_environment(hooks.environment.reveal())
        self._zones = Zones(hooks.resolver, hooks.watched, policy)

    async def present(self, proof: Proof) -> None:
        """Have the record put; the script is told the name that CNAMEs lead to."""
        await self._run(self._present, proof)

    async def is_visible(self, proof: Proof) -> bool:
        """Whether every authoritative server has the record."""
        return await self._zones.is_seen(await self._zones.target_of(proof), value_of(proof))

    async def cleanup(self, proof: Proof) -> None:
        """Have the record taken away."""
        if self._cleanup:
            await self._run(self._cleanup, proof)

    async def _run(self, script: str, proof: Proof) -> None:
        path = allowed(self._folder, script)
        target = await self._zones.target_of(proof)
        told = {
            "CERTCTL_DNS_DOMAIN": proof.name,
            "CERTCTL_DNS_FQDN": target.to_text(omit_final_dot=True),
            "CERTCTL_DNS_VALUE": value_of(proof),
            "CERTCTL_DNS_TOKEN": proof.token,
        }
        await run_program(path.name, [str(path)], _TIMEOUT, CLEAN_ENVIRONMENT | self._environment | told)


def allowed(folder: Path, script: str) -> Path:
    """The script's path, straight in `folder`, and writable by its owner alone: root or this user.

    Raises Misconfigured, saying what to do.
    """
    path = folder / script
    if path.parent != folder or path.name in {"", ".", ".."} or "\0" in script:
        raise Misconfigured(f"{script[:200]!r} does not lie straight in {folder}; see {SETTING}")
    for each, is_right in ((folder, stat.S_ISDIR), (path, stat.S_ISREG)):
        try:
            facts = each.lstat()
        except OSError as error:
            raise Misconfigured(f"{each} cannot be looked at: {error.strerror}") from error
        if not is_right(facts.st_mode):
            raise Misconfigured(f"{each} is a link, or not what it should be; scripts are plain files in {SETTING}")
        if facts.st_uid not in {0, os.geteuid()} or facts.st_mode & 0o022:
            raise Misconfigured(f"{each} could be written by others; run: chown root {each} && chmod go-w {each}")
    return path


def read_environment(text: str) -> dict[str, str]:
    """`NAME=value` lines as variables; what decides which program is loaded is refused. Raises Misconfigured."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()) or "\0" in value:
            raise Misconfigured(f"dns_script_environment: line {number} is not NAME=value")
        if _HOST_ALONE.fullmatch(name.strip()):
            raise Misconfigured(f"dns_script_environment: {name.strip()} is not for an issuer to set")
        found[name.strip()] = value
    if len(found) > _MOST_VARIABLES:
        raise Misconfigured(f"dns_script_environment has more than {_MOST_VARIABLES} variables")
    return found
