"""What an approval binds to, and whether a person must give it.

The hash covers everything a decision was about: names, profile and its version, issuer, lifetime, key rule. Whoever
issues compares it again, so an approval never covers a request that has changed since. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from certctl.core.catalogue import Profile
from certctl.core.names import Name


def decision_hash(
    *, names: Iterable[Name], profile_id: str, profile_version: int, issuer_id: str, validity: timedelta, key_rule: str
) -> str:
    """SHA-256, lowercase hex, over canonical JSON of the decision. Order and repetition of names do not matter."""
    decided = {
        "names": sorted({f"{name.kind}:{name.value}" for name in names}),
        "profile_id": profile_id,
        "profile_version": profile_version,
        "issuer_id": issuer_id,
        "validity_microseconds": validity // timedelta(microseconds=1),
        "key_rule": key_rule,
    }
    return _digest(decided)


def edit_hash(*, profile_id: str, profile_version: int, changes: dict[str, Any]) -> str:
    """The same over an edit of a profile: of which version, and the whole change."""
    return _digest({"profile_id": profile_id, "profile_version": profile_version, "changes": changes})


def _digest(decided: dict[str, Any]) -> str:
    canonical = json.dumps(decided, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def needs_approval(profile: Profile) -> bool:
    """Whether a person must approve before anything is issued under this profile."""
    return profile.requires_approval


def is_looser(before: Profile, after: Profile) -> bool:
    """Whether one wants the word of fewer people than another, or of others than it names."""
    if not before.requires_approval:
        return False
    if not after.requires_approval or after.approvals_required < before.approvals_required:
        return True
    return bool(before.approvers) and (not after.approvers or not set(after.approvers) <= set(before.approvers))
