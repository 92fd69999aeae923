"""Any ACME CA as an issuer (RFC 8555, 9773, 8738, EAB, profiles, alternate chains): an async client of our own.

`submit` makes or finds the account and orders: the order's address is stored before anything else is asked (the
reference), so that a process that dies goes on with the same order, and no order is finalized for two intents. What an
order waits for is looked up at the CA each time; nothing of it is kept here. ADR: docs/adr, "The ACME client is ours".
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta

import httpx
import msgspec

from certctl.connectors import http
from certctl.connectors.base.issuer import AccountBook, DryRun, Issued, Order, Pending, Precheck, Revocation, Suggestion
from certctl.connectors.base.solver import Proof, Solver
from certctl.connectors.dial import DialPolicy
from certctl.connectors.issuers.acme.account import known_account, roll_key
from certctl.connectors.issuers.acme.client import AcmeClient, ask_again_after
from certctl.connectors.issuers.acme.config import AcmeConfig
from certctl.connectors.issuers.acme.dry_run import play
from certctl.connectors.issuers.acme.ordering import certificate_id, go_on, place
from certctl.connectors.issuers.acme.problems import CaRefusal, error_of
from certctl.core.ca_limits import limits_of
from certctl.core.errors import Misconfigured, Rejected, Unsupported
from certctl.core.names import Name
from certctl.pki.keys import load_private_key

__all__ = ["AcmeConfig", "AcmeIssuer"]

_TIMEOUT = timedelta(seconds=20)
# RFC 9773 4.3.2: at least once a day, and never more often than a CA can bear
_ARI_DEFAULT, _ARI_LONGEST, _ARI_SHORTEST = timedelta(hours=6), timedelta(days=1), timedelta(minutes=1)
# RFC 5280 5.3.1
_REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "caCompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
    "aaCompromise": 10,
}


class AcmeIssuer:
    """One account at one CA. `solver` proves names, `accounts` keeps it, `dial_policy` says what may be asked."""

    def __init__(
        self,
        config: AcmeConfig,
        accounts: AccountBook,
        solver: Solver,
        precheck: Precheck | None,
        dial_policy: DialPolicy,
        clients: http.KeptClients,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._solver = solver
        self._precheck = precheck
        self._policy = dial_policy
        self._clients = clients

    async def submit(self, order: Order) -> Issued | Pending:
        """Place an order, or find the one that an earlier try placed; its address is the reference."""
        async with self._talk() as client:
            return Pending(await place(client, self._config, self._accounts, self._precheck, order), timedelta(0))

    async def collect(self, reference: str, order: Order) -> Issued | Pending:
        """Bring an order one step further; when the CA has signed, fetch what it signed."""
        try:
            async with self._talk() as client:
                answer = await go_on(
                    client, self._config, self._accounts, self._precheck, self._solver, reference, order
                )
        except (Rejected, Misconfigured) as error:
            await self._accounts.end_ask(order.order_id, "refused", error.message)
            raise
        if isinstance(answer, Issued):
            await self._accounts.end_ask(order.order_id, "issued")
        return answer

    async def take_back(self, proofs: Sequence[Proof]) -> None:
        """Take answers away; the CA is not asked."""
        for proof in proofs:
            await self._solver.cleanup(proof)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke with the account's key; revoking twice is once."""
        async with self._talk() as client:
            try:
                await client.revoke(revocation.leaf_der, _REASONS.get(revocation.reason, 0))
            except CaRefusal as refusal:
                if refusal.problem.kind != "alreadyRevoked":
                    raise

    async def inspect(self) -> str:
        """Read the directory and make or find the account; nothing is ordered."""
        async with self._talk() as client:
            directory = await client.directory()
            more = [
                word
                for word, there in (
                    ("renewal information", directory.renewal_info),
                    (f"profiles {', '.join(sorted(directory.meta.profiles))[:200]}", directory.meta.profiles),
                )
                if there
            ]
            told = f"; it has {' and '.join(more)}" if more else ""
            return f"the CA at {self._config.directory_url} knows our account {client.account_url}{told}"

    async def suggest(self, leaf_der: bytes, chain_der: tuple[bytes, ...]) -> Suggestion | None:  # noqa: ARG002
        """When the CA would like this certificate to be renewed (RFC 9773)."""
        name = certificate_id(leaf_der)
        if not self._config.ari_enabled or not name:
            return None
        async with self._talk(account=False) as client:
            found = await client.renewal_info(name)
        if found is None:
            return None
        told, after = found
        wait = max(ask_again_after(after, _ARI_DEFAULT, _ARI_LONGEST), _ARI_SHORTEST)
        return Suggestion(told.start, told.end, told.explanation_url[:1000], wait)

    async def dry_run(self, names: Sequence[Name], now: datetime, limit: timedelta) -> DryRun:
        """A whole order at the CA's directory for trials, by an account of its own there; nothing of it is kept."""
        url = self.trial_place()
        config = msgspec.structs.replace(self._config, directory_url=url, staging_directory_url="")
        trial = AcmeIssuer(config, self._accounts, self._solver, self._precheck, self._policy, self._clients)
        steps = await play(trial._talk, config, self._solver, self._accounts, self._precheck, names, now, limit)
        return DryRun(directory_url=url, passed=all(one.outcome == "done" for one in steps), steps=tuple(steps))

    def trial_place(self) -> str:
        """The CA's directory for trials. Raises Unsupported."""
        url = self._config.staging_directory_url or limits_of(self._config.directory_url).staging_url
        if not url:
            raise Unsupported(
                f"a dry run is not supported for {self._config.directory_url}: no directory for trials is known of it; "
                "if the CA has one, set staging_directory_url"
            )
        if self._config.challenge_by == "agent":
            raise Unsupported("a dry run is not supported with challenge_by agent: agents answer for jobs alone")
        return url

    async def roll_key(self) -> str:
        """Change the account's key; a change that broke off is brought to its end."""
        with _errors():
            return await roll_key(self._session(), self._config, self._accounts)

    @contextlib.asynccontextmanager
    async def _talk(self, *, account: bool = True) -> AsyncIterator[AcmeClient]:
        session = self._session()
        with _errors():
            if account:
                client = await known_account(session, self._config, self._accounts)
            else:
                kept = await self._accounts.open(self._config.directory_url)
                client = AcmeClient(session, self._config.directory_url, load_private_key(kept.key_pem))
            try:
                yield client
            except CaRefusal as refusal:
                if refusal.problem.kind == "accountDoesNotExist" and account:
                    await self._accounts.registered(self._config.directory_url, "")
                raise

    def _session(self) -> httpx.AsyncClient:
        """The process's connections to this CA: an order is asked about many times."""
        pem = self._config.ca_certificates_pem

        def make() -> httpx.AsyncClient:
            context = http.tls_context(ca_pem=pem) if pem else None
            return http.client(self._policy, timeout=_TIMEOUT, most_body_bytes=1024 * 1024, context=context)

        return self._clients.of(("acme", self._config.directory_url, pem), make)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except CaRefusal as refusal:
        raise error_of(refusal) from refusal
