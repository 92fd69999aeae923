"""Secrets of an issuer's configuration: sealed apart from it, opened where the issuer is, never shown.

In `config` stands `[redacted]` in the place of each: sent back, it means the one that is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec

from certctl.connectors.base.config import REDACTED
from certctl.connectors.registry import check_issuer_config, issuer_secrets
from certctl.control.changes import fault
from certctl.core.catalogue import IssuerRecord
from certctl.pki.seal import Sealer


def sealed_as(issuer_id: str) -> str:
    """What they are bound to."""
    return f"certctl/issuers/{issuer_id}/config"


def seal_config(
    sealer: Sealer, kind: str, issuer_id: str, wanted: dict[str, Any], before: IssuerRecord | None = None
) -> tuple[dict[str, Any], bytes | None]:
    """A configuration as it is kept: what is shown, and what is sealed. Raises Malformed for one that cannot work."""
    kept = _secrets(sealer, before) if before is not None else {}
    secrets: dict[str, Any] = {}
    for name in sorted(set(issuer_secrets(kind)) & set(wanted)):
        value = wanted[name]
        if value == REDACTED:
            if name not in kept:
                raise fault("secret_is_redacted", f"config.{name} was never given; give its value", f"config.{name}")
            value = kept[name]
        if value != "":
            secrets[name] = value
    check_issuer_config(kind, wanted | secrets)
    shown = {name: value for name, value in wanted.items() if name not in issuer_secrets(kind)}
    shown |= dict.fromkeys(secrets, REDACTED)
    return shown, sealer.seal(msgspec.json.encode(secrets), sealed_as(issuer_id)) if secrets else None


def open_config(sealer: Sealer, record: IssuerRecord) -> dict[str, Any]:
    """The whole configuration, secrets too: for the connector alone."""
    return record.config | _secrets(sealer, record)


def _secrets(sealer: Sealer, record: IssuerRecord) -> dict[str, Any]:
    if record.sealed_config is None:
        return {}
    found: dict[str, Any] = msgspec.json.decode(sealer.unseal(record.sealed_config, sealed_as(record.id)))
    return found
