"""What was issued leaves in PEM or PKCS #12: never a key, always with an event that says who took it."""

from __future__ import annotations

from certctl.core.actor import Actor
from certctl.core.certificate import Version
from certctl.core.errors import NotFound
from certctl.core.events import Event, EventType
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import views


async def export(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, version_id: str = "", form: str = "pem"
) -> Version:
    """The named version, else the current one that ends last; NotFound when nothing has been issued."""
    async with ctx.database.begin("export") as tx:
        if version_id:
            version = await views.version(tx, scope, certificate_id, version_id)
        else:
            current = await views.current_versions(tx, scope, certificate_id)
            if not current:
                raise NotFound(f"certificate {certificate_id} has no current version: nothing to export")
            version = max(current, key=lambda each: (each.not_after, each.id))
        event = Event(
            type=EventType.CERTIFICATE_EXPORTED,
            subject_type="certificate",
            subject_id=certificate_id,
            actor=actor,
            details={"version_id": version.id, "serial_number": version.serial_number, "format": form},
        )
        await append(tx, ctx.scope, ctx.now(), event)
    return version
