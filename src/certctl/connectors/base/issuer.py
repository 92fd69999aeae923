"""An issuer turns an approved order into a certificate: at once, in minutes, or after a human in days.

`submit` and `collect` are split so that one shape fits a local CA, ACME and a person at a public CA, and survives
restarts:
the intent (for our own CA the serial and the whole TBS) is stored before `submit`, the reference before `collect`.
Only errors of the ConnectorError family (and TrustError) leave an issuer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from certctl.connectors.base.solver import Proof
from certctl.core.names import Name


class LeafRules(Struct, frozen=True):
    """What profile and request allow the leaf to say. `ekus` are names (serverAuth, clientAuth, ...) or dotted OIDs."""

    ekus: tuple[str, ...] = ("serverAuth",)
    must_staple: bool = False


class Intent(Struct, frozen=True):
    """What is stored before the act: nothing else is ever signed under this serial."""

    serial_number: int
    tbs_der: bytes
    ca_certificate_id: str
    not_before: datetime
    not_after: datetime


class Order(Struct, frozen=True):
    """One approved request for one certificate. Names and lifetime come from the approval, never from the CSR."""

    order_id: str
    common_name: str
    names: tuple[Name, ...]
    csr_der: bytes
    validity: timedelta
    rules: LeafRules
    now: datetime
    intent: Intent | None = None
    # the certificate that this one takes the place of, when the same issuer issued it (RFC 9773 5)
    replaces_der: bytes | None = None
    # for which certificate and job; the agent that holds the key, empty when none does
    certificate_id: str = ""
    job_id: str = ""
    agent_id: str = ""
    # how often the step that asks was begun: from the second time on the CA may have heard of the order already
    attempt: int = 1


class Issued(Struct, frozen=True):
    """The raw answer: leaf first, then each issuer up to, not including, the root."""

    leaf_der: bytes
    chain_der: tuple[bytes, ...] = ()
    root_der: bytes | None = None


class Pending(Struct, frozen=True):
    """Not yet: ask again with `reference` after `retry_after`."""

    reference: str
    retry_after: timedelta


class Issuer(Protocol):
    """What every issuer can do."""

    async def submit(self, order: Order) -> Issued | Pending:
        """Ask for the certificate of `order`. Called again with the same order after a crash."""
        ...

    async def collect(self, reference: str, order: Order) -> Issued | Pending:
        """Fetch what an earlier `submit` promised."""
        ...


@runtime_checkable
class DraftsIntent(Protocol):
    """An issuer that decides serial and TBS itself: the draft is stored before anything is signed."""

    async def draft(self, order: Order) -> Intent:
        """Choose the serial and write the whole TBS; sign nothing."""
        ...


@runtime_checkable
class DraftsTogether(Protocol):
    """An issuer that drafts many orders by one look at its CA."""

    async def draft_all(self, orders: Sequence[Order]) -> list[Intent | Exception]:
        """`draft` for each, in order; what is wrong with one is told in its place."""
        ...


class Revocation(Struct, frozen=True):
    """One certificate to revoke at its CA."""

    serial_number: int
    ca_certificate_id: str
    leaf_der: bytes
    reason: str
    revoked_at: datetime


@runtime_checkable
class Revokes(Protocol):
    """An issuer that can revoke what it issued."""

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke; revoking twice is once."""
        ...


@runtime_checkable
class RevokesHere(Protocol):
    """An issuer whose CRL and OCSP speak from our own facts: once they are committed there is nobody to tell."""

    revokes_here: Literal[True]


@runtime_checkable
class PartsCrls(Protocol):
    """An issuer of our own whose certificates name one of so many shards of its CRL, with deltas or without."""

    crl_shards: int
    crl_deltas: bool


@runtime_checkable
class Inspects(Protocol):
    """An issuer whose set-up can be tested without issuing."""

    async def inspect(self) -> str:
        """A sentence that says what was reached; raises ConnectorError when it does not work."""
        ...


class Suggestion(Struct, frozen=True):
    """When a CA would like a certificate to be renewed (RFC 9773 4.2): within this window. Times are aware UTC."""

    start: datetime
    end: datetime
    explanation_url: str
    ask_again_after: timedelta


@runtime_checkable
class SuggestsRenewal(Protocol):
    """An issuer that says when it would like a certificate to be renewed."""

    async def suggest(self, leaf_der: bytes, chain_der: tuple[bytes, ...]) -> Suggestion | None:
        """Its wish about one certificate that it issued; None when it has none to tell."""
        ...


class DryRunStep(Struct, frozen=True):
    """One step of a dry run: which, `done` or `failed`, what is to be said of it, and how long it took."""

    step: str
    outcome: str
    message: str
    seconds: float


class DryRun(Struct, frozen=True, kw_only=True):
    """How a dry run went at the trial directory `directory_url`: `passed` when every step was done."""

    directory_url: str
    passed: bool
    steps: tuple[DryRunStep, ...]


@runtime_checkable
class RunsDry(Protocol):
    """An issuer whose CA has a place for trials: what it signs there nobody trusts."""

    def trial_place(self) -> str:
        """The address of that place. Raises Unsupported, with the reason, where a dry run cannot be."""
        ...

    async def dry_run(self, names: Sequence[Name], now: datetime, limit: timedelta) -> DryRun:
        """Have `names` issued there, within `limit`, and throw the certificate away. Raises Unsupported."""
        ...


class CaAccount(Struct, frozen=True):
    """An account of ours at a CA. `url` is empty until the CA has named it.

    `next_key_pem` is of a key change under way. `fresh`: the key was made just now, so that no CA can know it yet.
    """

    key_pem: bytes
    url: str = ""
    next_key_pem: bytes = b""
    fresh: bool = False


class AccountBook(Protocol):
    """Where an issuer's account lies, its key sealed; all replicas find the same."""

    async def open(self, directory_url: str) -> CaAccount:
        """The account at this directory; a key is made and kept on first use."""
        ...

    async def registered(self, directory_url: str, url: str) -> None:
        """The CA named the account so; empty: it knows the account no more."""
        ...

    async def begin_ask(self, directory_url: str, order: Order, *, exempt: bool) -> None:
        """Keep that a new order is asked for; `exempt` from the CA's limits. Raises Rejected or Temporary."""
        ...

    async def is_asking(self, order_id: str) -> bool:
        """Whether one was asked for, and nobody knows what became of it."""
        ...

    async def end_ask(self, order_id: str, state: str, detail: str = "") -> None:
        """What became of it: issued, refused (in the end), declined (at once), lost, or absent (at the CA)."""
        ...

    async def claim_order(self, url: str, order_id: str) -> bool:
        """Keep that the CA's order at `url` is that of our `order_id`; False when it is another's."""
        ...

    async def order_of(self, order_id: str) -> str:
        """The address of the CA's order that was claimed for ours; empty for none."""
        ...

    async def put_proofs(self, order_id: str, proofs: Sequence[Proof]) -> None:
        """Keep what is about to be put for an order of ours, so that it is taken away whatever becomes of it."""
        ...

    async def proofs_of(self, order_id: str) -> Sequence[Proof]:
        """What was put for it and not yet taken away."""
        ...

    async def drop_proofs(self, order_id: str) -> None:
        """It was taken away."""
        ...

    async def begin_key_change(self, directory_url: str) -> CaAccount:
        """Make and keep a next key, or find the one of a change that was broken off."""
        ...

    async def end_key_change(self, directory_url: str, *, changed: bool) -> None:
        """The next key is the key from now on; or it is forgotten."""
        ...


class Prospect(Struct, frozen=True, kw_only=True):
    """Who would issue: the CA's names in CAA records (none: not judged), our account there, the challenge."""

    caa_identities: tuple[str, ...]
    account_url: str
    method: str


class Precheck(Protocol):
    """What DNS says before a CA is asked."""

    async def judge(self, names: Sequence[Name], prospect: Prospect) -> None:
        """Return when nothing is known that forbids. Raises Rejected."""
        ...


@runtime_checkable
class TakesBack(Protocol):
    """An issuer that puts answers to challenges somewhere, and can take them away without its order."""

    async def take_back(self, proofs: Sequence[Proof]) -> None:
        """Take these away; what is away already is no error."""
        ...


@runtime_checkable
class HasAccount(Protocol):
    """An issuer with an account of its own at the CA."""

    async def roll_key(self) -> str:
        """Change the account's key; a sentence that says what was done."""
        ...
