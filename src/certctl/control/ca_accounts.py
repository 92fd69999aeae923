"""Our accounts at other CAs: the key made once and sealed, whichever replica asks first; answers of http-01.

Keys are opened here, for a connector that signs with them, and nowhere else. Never shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from certctl.connectors.base.issuer import CaAccount, HasAccount, Order
from certctl.connectors.base.solver import Proof
from certctl.control import ca_asks, ca_proofs
from certctl.control.changes import note
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import Misconfigured, NotFound, Unsupported
from certctl.core.events import EventType
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.keys import generate_private_key, private_key_pem
from certctl.store import asked, catalogue, sealed
from certctl.store.asked import AccountRecord
from certctl.store.asks import AskState
from certctl.store.tx import Tx

_SUBJECT = "ca_account"
_ANSWERED_FOR = timedelta(days=1)


def sealed_as(account_id: str, *, next_key: bool = False) -> str:
    """What an account's key is bound to."""
    return f"certctl/ca_accounts/{account_id}" + ("/next" if next_key else "")


class Accounts:
    """One issuer's accounts; `ctx` is asked for when it is there."""

    def __init__(self, ctx: Callable[[], Context], issuer_id: str) -> None:
        self._ctx = ctx
        self._issuer_id = issuer_id

    async def open(self, directory_url: str) -> CaAccount:
        """The account at this directory; a key is made and kept on first use."""
        ctx = self._ctx()
        async with ctx.database.read() as tx:
            found = await asked.account(tx, ctx.scope, self._issuer_id, directory_url)
        if found is not None:
            return self._opened(ctx, found)
        made = self._new(ctx, directory_url)
        async with ctx.database.begin("ca_account.create") as tx:
            await sealed.require_key(tx, ctx.scope, ctx.sealer.key_id)
            fresh = await asked.insert_account(tx, ctx.scope, made)
            if fresh:
                await note(tx, ctx, ctx.actor, EventType.CONFIG_CREATED, _SUBJECT, made.id, [self._issuer_id])
            found = await asked.account(tx, ctx.scope, self._issuer_id, directory_url)
        if found is None:
            raise NotFound(f"no account of issuer {self._issuer_id}")
        return self._opened(ctx, found, fresh=fresh)

    def _new(self, ctx: Context, directory_url: str) -> AccountRecord:
        now, account_id = ctx.now(), new_id("caacc")
        pem = private_key_pem(generate_private_key(KeyAlgorithm.ECDSA_P256))
        return AccountRecord(
            tenant_id=ctx.scope.tenant_id,
            id=account_id,
            issuer_id=self._issuer_id,
            directory_url=directory_url,
            url="",
            sealed=ctx.sealer.seal(pem, sealed_as(account_id)),
            sealed_next=None,
            created_at=now,
            updated_at=now,
        )

    def _opened(self, ctx: Context, found: AccountRecord, *, fresh: bool = False) -> CaAccount:
        waiting = found.sealed_next
        return CaAccount(
            key_pem=ctx.sealer.unseal(found.sealed, sealed_as(found.id)),
            url=found.url,
            next_key_pem=ctx.sealer.unseal(waiting, sealed_as(found.id, next_key=True)) if waiting else b"",
            fresh=fresh,
        )

    async def registered(self, directory_url: str, url: str) -> None:
        """The CA named the account so; empty: it knows the account no more."""
        ctx = self._ctx()
        async with ctx.database.begin("ca_account.name") as tx:
            found = await self._standing(tx, ctx, directory_url)
            await asked.name_account(tx, ctx.scope, self._issuer_id, directory_url, url, ctx.now())
            await note(tx, ctx, ctx.actor, EventType.CONFIG_UPDATED, _SUBJECT, found.id, ["url"])

    async def begin_ask(self, directory_url: str, order: Order, *, exempt: bool) -> None:
        """Keep that a new order is asked for. Raises Rejected while paused, Temporary for a spent budget."""
        await ca_asks.begin(self._ctx(), self._issuer_id, directory_url, order, exempt=exempt)

    async def is_asking(self, order_id: str) -> bool:
        """Whether one was asked for, and nobody knows what became of it."""
        return await ca_asks.is_open(self._ctx(), order_id)

    async def end_ask(self, order_id: str, state: str, detail: str = "") -> None:
        """What became of it."""
        await ca_asks.end(self._ctx(), self._issuer_id, order_id, state, detail)

    async def claim_order(self, url: str, order_id: str) -> bool:
        """Keep that the CA's order at `url` is that of our `order_id`; False when it is another's."""
        ctx = self._ctx()
        async with ctx.database.begin("ca_order.claim") as tx:
            mine, new = await asked.claim_order(tx, ctx.scope, self._issuer_id, url, order_id, ctx.now())
            if new:
                await note(tx, ctx, ctx.actor, EventType.ORDER_PLACED, "order", order_id, [self._issuer_id])
            if mine:
                await ca_asks.end_in(tx, ctx, self._issuer_id, order_id, AskState.ORDERED)
        return mine

    async def order_of(self, order_id: str) -> str:
        """The address of the CA's order that was claimed for ours; empty for none."""
        ctx = self._ctx()
        async with ctx.database.read() as tx:
            return await asked.order_url(tx, ctx.scope, order_id)

    async def put_proofs(self, order_id: str, proofs: Sequence[Proof]) -> None:
        """Keep what is about to be put for an order of ours."""
        await ca_proofs.keep(self._ctx(), self._issuer_id, order_id, proofs)

    async def proofs_of(self, order_id: str) -> Sequence[Proof]:
        """What was put for it and not yet taken away."""
        return await ca_proofs.of_order(self._ctx(), order_id)

    async def drop_proofs(self, order_id: str) -> None:
        """It was taken away."""
        await ca_proofs.drop(self._ctx(), order_id)

    async def begin_key_change(self, directory_url: str) -> CaAccount:
        """Make and keep a next key, or find the one of a change that was broken off."""
        ctx = self._ctx()
        async with ctx.database.begin("ca_account.next_key") as tx:
            await sealed.require_key(tx, ctx.scope, ctx.sealer.key_id)
            found = await self._standing(tx, ctx, directory_url)
            pem = private_key_pem(generate_private_key(KeyAlgorithm.ECDSA_P256))
            value = ctx.sealer.seal(pem, sealed_as(found.id, next_key=True))
            await asked.offer_next_key(tx, ctx.scope, self._issuer_id, directory_url, value, ctx.now())
            return self._opened(ctx, await self._standing(tx, ctx, directory_url))

    async def end_key_change(self, directory_url: str, *, changed: bool) -> None:
        """The next key is the key from now on; or it is forgotten."""
        ctx = self._ctx()
        async with ctx.database.begin("ca_account.key") as tx:
            await sealed.require_key(tx, ctx.scope, ctx.sealer.key_id)
            found = await self._standing(tx, ctx, directory_url)
            if found.sealed_next is None:
                return
            value = None
            if changed:
                pem = ctx.sealer.unseal(found.sealed_next, sealed_as(found.id, next_key=True))
                value = ctx.sealer.seal(pem, sealed_as(found.id))
                await note(tx, ctx, ctx.actor, EventType.KEY_ROTATED, _SUBJECT, found.id, [self._issuer_id])
            await asked.end_key_change(tx, ctx.scope, self._issuer_id, directory_url, value, ctx.now())

    async def _standing(self, tx: Tx, ctx: Context, directory_url: str) -> AccountRecord:
        found = await asked.account(tx, ctx.scope, self._issuer_id, directory_url)
        if found is None:
            raise Misconfigured(f"issuer {self._issuer_id} has no account at {directory_url} yet")
        return found


async def roll_key(ctx: Context, scope: Scope, issuer_id: str) -> str:
    """Change the key of an issuer's account, or bring a change that broke off to its end; a sentence. Unsupported."""
    async with ctx.database.read() as tx:
        record = await catalogue.get(tx, scope, IssuerRecord, issuer_id)
    issuer = await ctx.open_issuer(record)
    if not isinstance(issuer, HasAccount):
        raise Unsupported(f"an issuer of type {record.type} has no account whose key could be changed")
    return await issuer.roll_key()


class Answers:
    """Answers of http-01, for every replica's listener."""

    def __init__(self, ctx: Callable[[], Context]) -> None:
        self._ctx = ctx

    async def put(self, token: str, key_authorization: str) -> None:
        """Keep an answer, for a day."""
        ctx = self._ctx()
        now = ctx.now()
        async with ctx.database.begin("ca_answer.put") as tx:
            await asked.put_answer(tx, ctx.scope, token, key_authorization, now, now + _ANSWERED_FOR)

    async def drop(self, token: str) -> None:
        """Forget it."""
        ctx = self._ctx()
        async with ctx.database.begin("ca_answer.drop") as tx:
            await asked.drop_answer(tx, ctx.scope, token)

    async def get(self, token: str) -> str | None:
        """What to answer, if anything."""
        ctx = self._ctx()
        async with ctx.database.read() as tx:
            return await asked.answer(tx, ctx.scope, token, ctx.now())
