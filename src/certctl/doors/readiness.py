"""Can this process work? Database, schema, leases, signer: each bounded in time, told in words that name no inside.

A process that cannot work is taken out by whoever asks `/ready`; what is wrong with the whole fleet (no agent, a CA
that refuses) is no reason for that, and is for the alerts to tell.
"""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

from certctl.core.errors import CertctlError, Misconfigured
from certctl.lifecycle.context import Context
from certctl.store import authority, migrate, sealed
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

# a database behind a cut cable says nothing at all: whoever asks whether we are ready must be told before it gives up
_BOUND_SECONDS = 2.0
# longer than a failover and a busy machine; a process that is granted nothing for so long does no work
_LEASELESS_SECONDS = 60.0
# the answer is public: asked however often, keys and config key are looked at so often at most
_SIGNER_EVERY_SECONDS = 5.0


class Verdict(Struct, frozen=True):
    """`failed` names the check that fails, empty when the process can work; `db` is the reference product's field."""

    db: str = "connected"
    failed: str = ""
    error: str = ""


class Watch:
    """One a process."""

    def __init__(self) -> None:
        self._lease_at: float | None = None
        self._signer_at = float("-inf")
        self._signer_fails = False

    def lease_granted(self) -> None:
        """The database let this process look for work under a lease; the first call begins the watch."""
        self._lease_at = time.monotonic()

    async def look(self, ctx: Context) -> Verdict:
        """The first check that fails, in the order in which one needs the other."""
        try:
            async with asyncio.timeout(_BOUND_SECONDS):
                found = await migrate.standing(ctx.database)
        except (CertctlError, OSError) as error:
            log.warning("not_ready", check="database", error=error)
            return Verdict("unreachable", "database", "the database does not answer")
        try:
            migrate.refuse_newer(found, migrate.known())
        except CertctlError as error:
            return Verdict("wrong_schema", "schema", error.message)
        if found.revision is None or found.revision < migrate.head():
            return Verdict("wrong_schema", "schema", "the database is older than this release's schema")
        if self._lease_at is not None and time.monotonic() - self._lease_at > _LEASELESS_SECONDS:
            return Verdict(failed="leases", error="this process was granted no lease for a minute")
        if await self._signer_is_away(ctx):
            return Verdict(failed="signer", error="this process cannot use the CA's keys; its log says why")
        return Verdict()

    async def _signer_is_away(self, ctx: Context) -> bool:
        now = time.monotonic()
        if now - self._signer_at >= _SIGNER_EVERY_SECONDS:
            try:
                async with asyncio.timeout(_BOUND_SECONDS):
                    await _open_keys(ctx)
            except (CertctlError, OSError) as error:
                log.warning("not_ready", check="signer", error=error)
                self._signer_fails = True
            else:
                self._signer_fails = False
            self._signer_at = now
        return self._signer_fails


async def _open_keys(ctx: Context) -> None:
    """Raises unless the config key in force is ours and the key of every CA that issues opens."""
    async with ctx.database.read() as tx:
        if await sealed.key_in_force(tx, ctx.scope) != ctx.sealer.key_id:
            raise Misconfigured("CERTCTL_CONFIG_ENCRYPTION_KEY was rotated; this process still has the one before")
        issuing = [ca for ca in await authority.signing_cas(tx, ctx.scope) if ca.state == "active"]
    for ca in issuing:
        await ctx.keybox.public_key(ca.key_ref)
