"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST that is sent twice acts once.

The first request claims its key before it acts; each of its commits notes so in the same transaction; its answer is
kept, sealed, for a day, and a retry gets that answer. A server that dies before the first commit leaves a claim that
lapses, and the retry acts; one that dies after it leaves a key that never acts again, only tells what was done.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta

import msgspec
from msgspec import Struct

from certctl.core.errors import (
    AnswerLost,
    CertctlError,
    IdempotencyKeyReused,
    Malformed,
    Misconfigured,
    StaleFence,
    StillRunning,
    Violation,
)
from certctl.core.ids import uuid7
from certctl.doors.edge import AsgiApp, HttpScope, Message, Receive, Send
from certctl.doors.identity import Caller
from certctl.doors.state import AppState
from certctl.lifecycle.context import Context
from certctl.store import idempotency as store
from certctl.store.idempotency import KeyRecord
from certctl.store.tx import WITNESS, Tx
from certctl.telemetry import points
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

KEPT = timedelta(hours=24)
HEADER = "idempotency-key"
REPLAYED = "Idempotency-Replayed"
# a request's lease: twice a step's, because it may wait for a CA before its next commit
_LEASES = 2
_MOST_BYTES = 1024 * 1024
_KEY = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')
_FORGET_AT_ONCE = 1000
_SLOT = "certctl.idempotency"


class Answer(Struct, frozen=True, array_like=True):
    """An answer as it was sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def read_key(text: str) -> str:
    """The key of the header, a string in quotes or bare; Malformed otherwise."""
    found = _KEY.fullmatch(text.strip())
    if found is None:
        message = "Idempotency-Key is 1 to 255 visible ASCII characters, best a UUID in quotes"
        raise Malformed(message, violations=(Violation("idempotency_key_has_wrong_form", message, "Idempotency-Key"),))
    return found[1] or found[2]


class Slot:
    """One call's claim, if it makes one."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._held: KeyRecord | None = None
        self._acted = False
        self._closed = False

    async def claim(self, caller: Caller, key: str, request: tuple[str, str, bytes, bytes]) -> Answer | None:
        """Claim `key` for a request (method, path, query, body); the answer when it was given before.

        Raises IdempotencyKeyReused, StillRunning, AnswerLost.
        """
        now = self._ctx.now()
        wanted = KeyRecord(
            tenant_id=self._ctx.scope.tenant_id,
            caller=f"{caller.actor.type}:{caller.actor.id}",
            key=key,
            request_hash=_hash(request),
            phase="claimed",
            token=uuid7(),
            lease_until=now + _LEASES * self._ctx.patience.lease,
            subject_type="",
            subject_id="",
            answer=None,
            created_at=now,
            expires_at=now + KEPT,
        )
        async with self._ctx.database.begin("idempotency.claim") as tx:
            standing = await store.claim(tx, self._ctx.scope, wanted)
        if standing is None:
            self._held = wanted
            return None
        return self._replay(standing, wanted)

    def _replay(self, standing: KeyRecord, wanted: KeyRecord) -> Answer:
        if standing.request_hash != wanted.request_hash:
            raise IdempotencyKeyReused("this Idempotency-Key was used for another request; take a new one")
        if standing.answer is not None:
            # another replica may have sealed it under a key that was rotated away meanwhile: then it is lost
            with contextlib.suppress(Misconfigured):
                raw = self._ctx.sealer.unseal(standing.answer, standing.sealed_as)
                return msgspec.msgpack.decode(raw, type=Answer)
        if standing.answer is None and standing.lease_until > wanted.created_at:
            message = "the first request with this Idempotency-Key is still under way"
            raise StillRunning(message, retry_after=timedelta(seconds=1))
        subject = f"{standing.subject_type} {standing.subject_id}".strip() or "what it wrote is in the audit log"
        raise AnswerLost(
            f"the first request with this Idempotency-Key did act, but its answer was lost ({subject}); "
            "look at it, and use a new key to act again",
            subject_id=standing.subject_id,
        )

    async def witness(self, tx: Tx) -> None:
        """Before each commit of the call: note that it acts. StaleFence when another holds the key by now."""
        held = self._held
        if held is None or self._closed:
            return
        until = self._ctx.now() + _LEASES * self._ctx.patience.lease
        subject = tx.subjects[0] if tx.subjects else ("", "")
        if not await store.act(tx, self._ctx.scope, held, until, subject):
            raise StaleFence("this request took too long: its Idempotency-Key has passed on, and nothing was written")
        self._acted = True

    async def finish(self, answer: Answer | None) -> None:
        """Keep the answer of what has acted or was right; let go of what was refused or broke."""
        held, self._closed = self._held, True
        if held is None:
            return
        kept = answer is not None and answer.status < 500 and (self._acted or answer.status < 400)
        fits = answer is not None and len(answer.body) <= _MOST_BYTES
        try:
            async with self._ctx.database.begin("idempotency.answer") as tx:
                if kept and fits:
                    sealed = self._ctx.sealer.seal(msgspec.msgpack.encode(answer), held.sealed_as)
                    await store.answer(tx, self._ctx.scope, held, sealed)
                else:
                    await store.let_go(tx, self._ctx.scope, held, self._ctx.now())
        except CertctlError as error:
            # the caller has its answer; a retry is told that it acted
            log.warning("idempotent_answer_not_kept", error=error)


class Idempotency:
    """Wraps an ASGI app: every POST with a key gets a slot, which the route claims once it knows its caller."""

    def __init__(self, app: AsgiApp, state: AppState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _has_key(scope):
            await self._app(scope, receive, send)
            return
        slot = Slot(self._state.ctx)
        scope[_SLOT] = slot
        held = _Held()
        with witnessed(slot):
            try:
                await self._app(scope, receive, held.send)
            except BaseException:
                await slot.finish(None)
                raise
            await slot.finish(held.answer())
        points.reach("answer.idempotent")
        for message in held.messages:
            await send(message)


async def forget_answers(ctx: Context) -> int:
    """Delete keys whose day is over; how many."""
    gone, last = 0, _FORGET_AT_ONCE
    while last == _FORGET_AT_ONCE:
        async with ctx.database.begin("idempotency.forget") as tx:
            last = await store.forget(tx, ctx.scope, ctx.now(), _FORGET_AT_ONCE)
        gone += last
    return gone


def slot_of(scope: HttpScope) -> Slot | None:
    """The slot of a POST that carries a key."""
    found: Slot | None = scope.get(_SLOT)
    return found


@contextlib.contextmanager
def witnessed(slot: Slot) -> Iterator[None]:
    """While this lasts, each commit notes that the slot's claim has acted."""
    before = WITNESS.set(slot.witness)
    try:
        yield
    finally:
        WITNESS.reset(before)


class _Held:
    """An answer held back until it is kept."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    def answer(self) -> Answer | None:
        starts = [message for message in self.messages if message["type"] == "http.response.start"]
        if not starts:
            return None
        body = b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")
        return Answer(starts[0]["status"], [(bytes(name), bytes(value)) for name, value in starts[0]["headers"]], body)


def _has_key(scope: HttpScope) -> bool:
    return any(name.lower() == HEADER.encode() for name, _ in scope["headers"])


def _hash(request: tuple[str, str, bytes, bytes]) -> str:
    method, path, query, body = request
    parts = (method.encode(), path.encode(), query, body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
