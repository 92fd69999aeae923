"""Issuers of a reference installation come over: their sealed configuration is opened and sealed under our own key.

What comes in are rows of its `issuers` table as PostgreSQL prints them (`SELECT row_to_json(i) FROM issuers i`), one a
line. Everything is opened before anything is written; a row that cannot be taken over is told with its reason, and an
issuer that is there already is left as it is. Never tells a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from certctl.control import issuers
from certctl.control.issuer_secrets import seal_config
from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import CallerError, CertctlError, Misconfigured, NotFound, TrustError
from certctl.core.secret import Secret
from certctl.lifecycle.context import Context
from certctl.pki.reference_seal import ReferenceSeal, read_bytea
from certctl.store import catalogue


class Taken(Struct, frozen=True):
    """What became of one row: `outcome` is imported, there already, or refused with `why`."""

    id: str
    outcome: str
    why: str = ""


class _Row(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    type: str
    enabled: bool = True
    encrypted_config: str | None = None
    # a deployment target has one; an issuer none
    agent_id: str | None = None


async def take_over(
    ctx: Context, actor: Actor, lines: Iterable[bytes], passphrase: Secret, *, dry_run: bool = False
) -> list[Taken]:
    """Take over each row; a dry run opens and judges all, and writes nothing. Raises Misconfigured when nothing opens:
    then the passphrase is wrong.
    """
    rows = [_read(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    opened = _open_all(rows, ReferenceSeal(passphrase))
    return [await _take(ctx, actor, row, config, dry_run=dry_run) for row, config in zip(rows, opened, strict=True)]


def _read(line: bytes, number: int) -> _Row:
    try:
        return msgspec.json.decode(line, type=_Row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Misconfigured(f"line {number} is no row of the reference product's issuers: {error}") from error


def _open_all(rows: list[_Row], seal: ReferenceSeal) -> list[dict[str, Any] | str]:
    """Each row's configuration, or the reason why there is none."""
    found: list[dict[str, Any] | str] = []
    first: Misconfigured | None = None
    for row in rows:
        try:
            found.append(_open(row, seal))
        except Misconfigured as error:
            first = first or error
            found.append(error.message)
        except TrustError as error:
            found.append(error.message)
    if first is not None and not any(isinstance(each, dict) for each in found):
        raise first
    return found


def _open(row: _Row, seal: ReferenceSeal) -> dict[str, Any]:
    if row.agent_id is not None:
        raise TrustError("it is a deployment target: not supported, make it anew with its agent")
    if not row.encrypted_config:
        raise TrustError("it has no encrypted_config: it comes from the environment there, or has never been saved")
    try:
        sealed = read_bytea(row.encrypted_config)
        config = msgspec.json.decode(seal.open(sealed, f"encrypted_config of {row.id}"))
    except (ValueError, RecursionError) as error:
        raise TrustError(f"encrypted_config: {_plainly(error)}") from error
    if not isinstance(config, dict):
        raise TrustError("its configuration is no JSON object")
    return config


def _plainly(error: Exception) -> str:
    # what was opened is a secret: of a fault in it no more is told than that there is one
    return "what it holds is no JSON" if isinstance(error, msgspec.MsgspecError) else str(error)


async def _take(ctx: Context, actor: Actor, row: _Row, config: dict[str, Any] | str, *, dry_run: bool) -> Taken:
    if isinstance(config, str):
        return Taken(row.id, "refused", config)
    try:
        async with ctx.database.read() as tx:
            await catalogue.get(tx, ctx.scope, IssuerRecord, row.id)
    except NotFound:
        pass
    else:
        return Taken(row.id, "there already")
    wanted = {"id": row.id, "name": row.name, "type": row.type, "enabled": row.enabled, "config": config}
    try:
        if dry_run:
            seal_config(ctx.sealer, row.type, row.id, config)
        else:
            await issuers.create(ctx, ctx.scope, actor, wanted)
    except CallerError as error:
        said = "; ".join(violation.message for violation in getattr(error, "violations", ())) or error.message
        return Taken(row.id, "refused", said)
    except CertctlError as error:
        return Taken(row.id, "refused", error.message)
    return Taken(row.id, "imported")
