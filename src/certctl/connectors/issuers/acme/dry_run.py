"""A dry run: the very names through the CA's directory for trials, told step by step; the certificate is thrown away.

The whole way is the real one: the account, what DNS says beforehand, the order, the configured challenge, finalize. No
order and no certificate of it are kept, and what was put to prove names is taken away however it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

import msgspec

from certctl.connectors.base.issuer import AccountBook, DryRunStep, Issued, LeafRules, Order, Precheck, Prospect
from certctl.connectors.base.solver import Proof, Solver
from certctl.connectors.issuers.acme.client import AcmeClient
from certctl.connectors.issuers.acme.config import AcmeConfig
from certctl.connectors.issuers.acme.ordering import OrderForgotten, advance, identifiers_of
from certctl.core.acme import DRY_RUN
from certctl.core.errors import CertctlError, ConnectorError, TrustError
from certctl.core.ids import new_id
from certctl.core.names import Name
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.csr import build_csr
from certctl.pki.keys import generate_private_key

_LONGEST_WAIT = timedelta(seconds=5)
_CLEANING = timedelta(seconds=60)


class Steps:
    """What was done so far; one step is always under way."""

    def __init__(self, first: str) -> None:
        self.taken: list[DryRunStep] = []
        self.now = first
        self._since = asyncio.get_running_loop().time()

    def done(self, said: str, following: str = "") -> None:
        """The step under way is done; another one begins."""
        self._end("done", said)
        self.now = following

    def failed(self, said: str) -> None:
        """The step under way is the last one."""
        self._end("failed", said)

    def _end(self, outcome: str, said: str) -> None:
        moment = asyncio.get_running_loop().time()
        self.taken.append(DryRunStep(self.now, outcome, said, round(moment - self._since, 3)))
        self._since = moment


class Remembering:
    """A solver that knows what it has put and not yet taken away. It is written down before it is put, for whoever
    comes after a process that died in between (`control.ca_proofs`).
    """

    def __init__(self, solver: Solver, accounts: AccountBook) -> None:
        self._solver = solver
        self._accounts = accounts
        self._run = new_id(DRY_RUN)
        self.challenge_type = solver.challenge_type
        self.put: dict[tuple[str, str], Proof] = {}

    async def present(self, proof: Proof) -> None:
        """Remembered first: a try that breaks off may have put it."""
        self.put[proof.name, proof.token] = proof
        await self._accounts.put_proofs(self._run, [proof])
        await self._solver.present(proof)

    async def is_visible(self, proof: Proof) -> bool:
        """As the solver sees it."""
        return await self._solver.is_visible(proof)

    async def cleanup(self, proof: Proof) -> None:
        """Taken away, and so forgotten."""
        await self._solver.cleanup(proof)
        if self.put.pop((proof.name, proof.token), None) is not None and not self.put:
            await self._accounts.drop_proofs(self._run)


async def play(
    talk: Callable[[], AbstractAsyncContextManager[AcmeClient]],
    config: AcmeConfig,
    solver: Solver,
    accounts: AccountBook,
    precheck: Precheck | None,
    names: Sequence[Name],
    now: datetime,
    limit: timedelta,
) -> list[DryRunStep]:
    """Go the whole way, or as far as it leads; `config` is of the directory for trials. Raises no ConnectorError."""
    steps, remembering = Steps("account"), Remembering(solver, accounts)
    try:
        async with asyncio.timeout(limit.total_seconds()), talk() as client:
            steps.done(f"{config.directory_url} knows our account {client.account_url}", "precheck")
            if precheck is not None:
                identities = tuple((await client.directory()).meta.caa_identities)
                prospect = Prospect(
                    caa_identities=identities, account_url=client.account_url, method=config.challenge_type
                )
                await precheck.judge(names, prospect)
                steps.done("DNS forbids nothing" if identities else "the CA names itself for no CAA records")
            steps.now = "order"
            await _go(client, config, remembering, _order(names, now), steps)
    except TimeoutError:
        steps.failed(f"not done within {limit.total_seconds():g} s")
    except (ConnectorError, TrustError) as error:
        steps.failed(error.message)
    except OrderForgotten as forgotten:
        steps.failed(str(forgotten))
    await _clean(remembering, steps)
    return steps.taken


async def _go(client: AcmeClient, config: AcmeConfig, solver: Remembering, order: Order, steps: Steps) -> None:
    payload: dict[str, Any] = {"identifiers": identifiers_of(order)}
    if config.profile:
        payload["profile"] = config.profile
    url, told = await client.new_order(payload)
    steps.done(f"{url}: {len(told.authorizations)} to prove by {solver.challenge_type}", "present")
    loop = asyncio.get_running_loop()
    reference, began, issued = url, loop.time(), None
    while issued is None:
        status = (await client.order(url))[0].status
        if status in {"ready", "processing", "valid"} and steps.now != "finalize":
            _proven(steps, solver)
            steps.done("the CA has seen the answers", "finalize")
        answer = await advance(client, config, None, solver, reference, _later(order, loop.time() - began))
        if isinstance(answer, Issued):
            issued = answer
            continue
        reference = answer.reference
        if "#" in reference and steps.now == "present":
            steps.done(_told(solver), "propagation")
        if reference.endswith("#answered") and steps.now == "propagation":
            steps.done("the answers are seen where the CA looks", "validation")
        await asyncio.sleep(min(answer.retry_after, _LONGEST_WAIT).total_seconds())
    steps.done("the CA has taken the CSR", "certificate")
    facts = read_certificate(issued.leaf_der)
    if set(facts.names) != set(order.names):
        raise TrustError("the certificate of the dry run is not for the names that were ordered")
    steps.done(f"signed by {facts.issuer} until {facts.not_after:%Y-%m-%d %H:%M} UTC; thrown away")


def _proven(steps: Steps, solver: Remembering) -> None:
    """A CA that has validated was quicker than our looks at it, or asked for nothing."""
    if steps.now == "present":
        steps.done(_told(solver), "propagation")
    if steps.now == "propagation":
        steps.done("the CA asks for no answer", "validation")


def _told(solver: Remembering) -> str:
    names = ", ".join(sorted({name for name, _ in solver.put})[:5])
    return f"{len(solver.put)} put for {names}" if names else "the CA asks for no proof"


async def _clean(solver: Remembering, steps: Steps) -> None:
    """Take away what an order that was not finished has left."""
    if not solver.put:
        return
    steps.now = "cleanup"
    try:
        async with asyncio.timeout(_CLEANING.total_seconds()):
            for proof in list(solver.put.values()):
                await solver.cleanup(proof)
        steps.done("what was put is taken away")
    except TimeoutError:
        steps.failed(f"not done within {_CLEANING.total_seconds():g} s")
    except CertctlError as error:
        steps.failed(error.message)


def _order(names: Sequence[Name], now: datetime) -> Order:
    """An order that is nobody's, with a key that is forgotten."""
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    csr_der = build_csr(key, "", tuple(names))
    return Order("", "", tuple(names), csr_der, timedelta(days=90), LeafRules(), now)


def _later(order: Order, seconds: float) -> Order:
    return msgspec.structs.replace(order, now=order.now + timedelta(seconds=seconds))
