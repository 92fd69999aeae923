"""What a request names has to be there, within its asker's sight; a target carries one certificate. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from certctl.core.catalogue import IssuerRecord, Owner, Profile, RenewalPolicy, Team
from certctl.core.certificate import Certificate
from certctl.core.errors import Malformed, NotFound, Violation
from certctl.core.scope import Scope
from certctl.core.target import TargetRecord
from certctl.store import catalogue, certificates
from certctl.store.tx import Tx


async def check(tx: Tx, scope: Scope, certificate: Certificate, target_ids: Sequence[str]) -> list[TargetRecord]:
    """The enabled targets, each once. Malformed with everything that is not there, or not for this scope to see."""
    violations: list[Violation] = []
    wanted: list[tuple[type[msgspec.Struct], str, str]] = [
        (IssuerRecord, certificate.issuer_id, "issuer_id"),
        (Profile, certificate.certificate_profile_id, "certificate_profile_id"),
        (RenewalPolicy, certificate.renewal_policy_id, "renewal_policy_id"),
        (Owner, certificate.owner_id, "owner_id"),
        (Team, certificate.team_id, "team_id"),
    ]
    await catalogue.see(tx, scope, [(kind, record_id) for kind, record_id, _ in wanted if record_id])
    for kind, record_id, field in wanted:
        if record_id:
            try:
                await catalogue.as_first_seen(tx, scope, kind, record_id)
            except NotFound as error:
                violations.append(Violation("unknown_reference", error.message, field))
    # a target that carries nothing yet is seen by nobody whose grants are limited, and may be taken by its id
    known = await catalogue.many(tx, Scope.whole(scope.tenant_id), TargetRecord, tuple(target_ids))
    taken = await certificates.other_certificates_of(tx, scope, certificate.id, target_ids)
    known = {target_id: known[target_id] for target_id in known if taken.get(target_id) != ""}
    violations.extend(
        Violation("unknown_reference", f"no target {target_id}", f"target_ids[{index}]")
        for index, target_id in enumerate(target_ids)
        if target_id not in known or known[target_id].retired_at is not None
    )
    # a target is one pair of files: two certificates on it would overwrite each other and both read green for a while
    violations.extend(
        Violation(
            "target_carries_another_certificate",
            f"target {target_id} already carries certificate {other}; make a target of its own for other files",
            "target_ids",
        )
        for target_id, other in taken.items()
        if target_id in known
    )
    if violations:
        raise Malformed("; ".join(v.message for v in violations), violations=tuple(violations))
    return [known[target_id] for target_id in dict.fromkeys(target_ids) if known[target_id].enabled]
