"""The config key's rotation: everything that lies sealed under CERTCTL_CONFIG_ENCRYPTION_KEY is sealed under another.

One transaction: a crash leaves all of it under the old key or all under the new one, and asked again it goes on from
there. Processes that still have the old key may run meanwhile: they sign with what they have opened, write no sealed
key any more (`store.sealed`), and are not ready.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.authority.keybox import associated_data
from certctl.control import ca_accounts, channels, issuer_secrets
from certctl.control.installation import CHECK_ROW, CHECK_TEXT, SALT
from certctl.core.actor import SYSTEM
from certctl.core.errors import Misconfigured
from certctl.core.events import Event, EventType
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.ledger import append
from certctl.pki.seal import Sealer
from certctl.store import authority, sealed
from certctl.store.idempotency import KeyRecord
from certctl.store.tx import Database, Tx


class Rotation(Struct, frozen=True, kw_only=True):
    """What was (or, in a dry run, would be) sealed anew. `already`: the new key was in force when we came."""

    old_key_id: str
    new_key_id: str
    keys: int = 0
    answers: int = 0
    already: bool = False


class _TakenBackError(Exception):
    """Ends a dry run: what it has done is rolled back."""

    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self.rotation = rotation


async def rotate(
    database: Database, scope: Scope, old: Secret, new: Secret, now: datetime, *, dry_run: bool = False
) -> Rotation:
    """Open everything with `old` and seal it under `new`. A dry run does the same and takes it back.

    Raises Misconfigured for a wrong old key, an equal new one, or an installation that never started; TrustError for a
    value that does not open: then nothing is changed.
    """
    async with database.read() as tx:
        salt = await authority.get_fact(tx, scope, SALT)
        in_force = await sealed.key_in_force(tx, scope)
    if salt is None or not in_force:
        raise Misconfigured("nothing is sealed yet: start the server once, or simply set the key you want")
    before, after = Sealer(old, salt), Sealer(new, salt)
    if before.key_id == after.key_id:
        raise Misconfigured("the new key is the one that is set already")
    try:
        async with database.begin("config_key.rotate") as tx:
            return await _reseal(tx, scope, before, after, now, dry_run=dry_run)
    except _TakenBackError as taken_back:
        return taken_back.rotation


async def _reseal(tx: Tx, scope: Scope, before: Sealer, after: Sealer, now: datetime, *, dry_run: bool) -> Rotation:
    check = await sealed.hold_check(tx, scope)
    rotation = Rotation(old_key_id=before.key_id, new_key_id=after.key_id, already=True)
    if check is not None and _opens(after, check):
        return rotation
    before.unseal(check or b"", CHECK_ROW)
    if left := await sealed.of_nobody_we_know(tx, scope):
        raise Misconfigured(f"this release cannot seal everything anew that lies here: {', '.join(left)}")

    def key_anew(key_ref: str, value: bytes) -> bytes:
        name = associated_data(key_ref)
        return after.seal(before.unseal(value, name), name)

    def answer_anew(record: KeyRecord) -> bytes:
        return after.seal(before.unseal(record.answer or b"", record.sealed_as), record.sealed_as)

    def external_key_anew(key_id: str, value: bytes) -> bytes:
        name = f"certctl/acme_external_keys/{key_id}"
        return after.seal(before.unseal(value, name), name)

    def account_anew(account_id: str, value: bytes, is_next: bool) -> bytes:
        name = ca_accounts.sealed_as(account_id, next_key=is_next)
        return after.seal(before.unseal(value, name), name)

    def issuer_anew(issuer_id: str, value: bytes) -> bytes:
        name = issuer_secrets.sealed_as(issuer_id)
        return after.seal(before.unseal(value, name), name)

    def channel_anew(channel_id: str, value: bytes) -> bytes:
        name = channels.sealed_as(channel_id)
        return after.seal(before.unseal(value, name), name)

    keys = await sealed.reseal_keys(tx, scope, key_anew)
    keys += await sealed.reseal_accounts(tx, scope, account_anew)
    keys += await sealed.reseal_issuers(tx, scope, issuer_anew)
    keys += await sealed.reseal_external_keys(tx, scope, external_key_anew)
    keys += await sealed.reseal_channels(tx, scope, channel_anew)
    answers = await sealed.reseal_answers(tx, scope, now, answer_anew)
    await sealed.replace_check(tx, scope, after.seal(CHECK_TEXT, CHECK_ROW))
    details = {"old_key_id": before.key_id, "new_key_id": after.key_id, "keys": keys, "answers": answers}
    event = Event(
        type=EventType.CONFIG_KEY_ROTATED,
        subject_type="installation",
        subject_id="config-key",
        actor=SYSTEM,
        details=details,
    )
    await append(tx, scope, now, event)
    done = Rotation(old_key_id=before.key_id, new_key_id=after.key_id, keys=keys, answers=answers)
    if dry_run:
        raise _TakenBackError(done)
    return done


def _opens(sealer: Sealer, check: bytes) -> bool:
    try:
        sealer.unseal(check, CHECK_ROW)
    except Misconfigured:
        return False
    return True
