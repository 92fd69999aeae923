"""An issuer turns an approved order into a certificate: at once, in minutes, or after a human in days.

`submit` and `collect` are split so that one shape fits a local CA, ACME and a person at a public CA, and survives
restarts:
the intent (for our own CA the serial and the whole TBS) is stored before `submit`, the reference before `collect`.
Only errors of the ConnectorError family (and TrustError) leave an issuer.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from msgspec import Struct

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
class Inspects(Protocol):
    """An issuer whose set-up can be tested without issuing."""

    async def inspect(self) -> str:
        """A sentence that says what was reached; raises ConnectorError when it does not work."""
        ...
