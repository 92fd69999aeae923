"""What may be ordered in a directory: its own profile, and those that it offers beside it (the profiles extension).

Accounts, keys of external accounts and how names are proven are the directory's own; rules, issuer and approval are
those of the profile that was chosen.
"""

from __future__ import annotations

from certctl.core.catalogue import Profile
from certctl.protocols.acme.entering import Asked, House
from certctl.store import catalogue
from certctl.store.tx import Tx
from certctl.wire.problem import AcmeRefusal, ProblemType


async def told(tx: Tx, house: House, own: Profile) -> dict[str, str]:
    """The directory's `meta.profiles`: a description of each by its name, with where to read more if that is said."""
    known = await catalogue.many(tx, house.state.ctx.scope, Profile, tuple(own.acme_profiles))
    others = [known[name] for name in own.acme_profiles if name in known and known[name].enabled]
    website = house.rules.website
    return {
        each.id: " ".join(part for part in (each.description or each.name, website and f"({website})") if part)
        for each in (own, *others)
    }


async def chosen(tx: Tx, asked: Asked, name: str | None) -> Profile:
    """The profile that an order names; the directory's own when it names none. invalidProfile for any other."""
    if name is None or name == asked.profile.id:
        catalogue.saw(tx, asked.house.state.ctx.scope, asked.profile, asked.profile.id)
        return asked.profile
    if name in asked.profile.acme_profiles:
        found = await catalogue.find(tx, asked.house.state.ctx.scope, Profile, id=name)
        if found is not None and found.enabled:
            return found
    raise AcmeRefusal(ProblemType.INVALID_PROFILE, "no profile of that name is offered here; see the directory's meta")
