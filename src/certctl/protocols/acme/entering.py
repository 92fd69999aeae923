"""Who asks (RFC 8555 6): the JWS is read, its key found, its signature judged, its address and nonce checked.

In this order: form, address, key, signature, and last the nonce, so that nobody spends another's. Spending it is one
statement and its own transaction: of many that bring the same nonce, on whichever replicas, one is let in.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
from msgspec import Struct

from certctl.core.acme import AccountStatus, AcmeAccount, AcmeRules
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import Profile
from certctl.core.errors import Malformed
from certctl.core.rules import Rate
from certctl.doors.edge import HttpScope, address_of, request_id_of
from certctl.doors.entry import Visit
from certctl.doors.state import AppState
from certctl.protocols.acme.crowding import Crowd
from certctl.protocols.acme.exchange import Place
from certctl.protocols.acme.nonces import Nonces
from certctl.store import acme, acme_entering, catalogue, rates
from certctl.store.acme_entering import Entered, Subject
from certctl.store.tx import Tx
from certctl.wire import jws
from certctl.wire.jws import Jwk, Jws
from certctl.wire.problem import AcmeRefusal, ProblemType

_MOST_URL = 2048
_SPENT = "this nonce was used, has lapsed or is not ours; take the fresh one"


class House(Struct, frozen=True):
    """What the routes of the ACME server share."""

    state: AppState
    rules: AcmeRules
    nonces: Nonces
    crowd: Crowd
    # CA generation -> its certificate, and who signed it: neither ever changes, so each is read once
    links: dict[str, tuple[bytes, str]] = msgspec.field(default_factory=dict)


# what a route's question is about, by the parts of its path that stand for something
About = Callable[..., Subject]


def nothing(*_: str) -> Subject:
    """Of a route that asks about nothing but its caller, or reads what it needs itself."""
    return Subject()


class Asked(Struct, frozen=True, kw_only=True):
    """A request whose sender is proven. `account` is None where its key alone speaks (a new account, a revocation)."""

    house: House
    place: Place
    profile: Profile
    jws: Jws
    jwk: Jwk
    account: AcmeAccount | None
    # of an account: what its question is about, as it was when the nonce was spent
    found: Entered | None
    request_id: str
    address: str
    accept: str
    query: str

    @property
    def payload(self) -> bytes:
        """What was signed; empty for POST-as-GET (RFC 8555 6.3)."""
        return self.jws.payload

    @property
    def is_read(self) -> bool:
        """Whether it is a POST-as-GET."""
        return not self.jws.payload

    @property
    def mine(self) -> AcmeAccount:
        """The account, where the route has made sure that there is one."""
        if self.account is None:
            raise AssertionError("this route is for accounts")
        return self.account

    @property
    def actor(self) -> Actor:
        """Who does it, as events and jobs name them."""
        who = f"acme:{self.account.id}" if self.account is not None else f"acme-key:{self.jwk.thumbprint}"
        return Actor(id=who, type=ActorType.ACME_ACCOUNT, request_id=self.request_id, address=self.address)


async def profile_of(tx: Tx, house: House, place: Place) -> Profile:
    """The profile that a place belongs to."""
    return _usable(await catalogue.find(tx, house.state.ctx.scope, Profile, id=place.profile_id), place)


def _usable(found: Profile | None, place: Place) -> Profile:
    if found is None or not found.enabled:
        raise AcmeRefusal(ProblemType.MALFORMED, f"there is no ACME server for profile {place.profile_id}", status=404)
    return found


async def enter(
    house: House, scope: HttpScope, place: Place, body: bytes, subject: Subject, *, by_key: bool | None = False
) -> Asked:
    """Prove who sent a body, and read what it is about. `by_key`: True wants the key itself in the header, False an
    account, None takes either.
    """
    message = jws.read_jws(body)
    jws.check_algorithm(message)
    _check_url(message, place, scope)
    named = {"jwk", "kid"} & message.header.keys()
    if len(named) != 1:
        raise AcmeRefusal(ProblemType.MALFORMED, "the protected header has exactly one of jwk and kid")
    if by_key is not None and named != ({"jwk"} if by_key else {"kid"}):
        raise AcmeRefusal(ProblemType.MALFORMED, f"this address wants {'jwk' if by_key else 'kid'} in the header")
    address = address_of(scope)
    visit = Visit(house.state, address, claims="kid" in named)
    seen = await _count(house, place, message, visit, address)
    found: Entered | None = None
    if "kid" in named:
        profile, found, jwk = await _enter_known(house, place, message, seen, subject) or await _enter(
            house, place, message, subject
        )
    else:
        profile, jwk = await _enter_by_key(house, place, message)
    account = found.account if found is not None else None
    if account is not None and account.status != AccountStatus.VALID:
        # RFC 8555 7.3.6
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, f"this account is {account.status}", status=401)
    if account is not None:
        visit.forget()
        house.crowd.proven(address, account.id, jwk)
        if seen is None:
            await _count_caller(house, account.id)
    return Asked(
        house=house,
        place=place,
        profile=profile,
        jws=message,
        jwk=jwk,
        account=account,
        found=found,
        request_id=request_id_of(scope),
        address=address,
        accept=_accept(scope),
        query=scope.get("query_string", b"").decode("latin-1"),
    )


async def _enter_by_key(house: House, place: Place, message: Jws) -> tuple[Profile, Jwk]:
    """Somebody who sends the key itself."""
    async with house.state.ctx.database.read() as tx:
        profile = await profile_of(tx, house, place)
    jwk = jws.read_jwk(message.header["jwk"])
    jws.check_fits(message, jwk)
    _check_signature(message, jwk, None)
    await _spend(house, message)
    return profile, jwk


async def _enter(house: House, place: Place, message: Jws, subject: Subject) -> tuple[Profile, Entered, Jwk]:
    """An account that has not proven itself from there lately."""
    async with house.state.ctx.database.read() as tx:
        await profile_of(tx, house, place)
        found = await acme.get(tx, house.state.ctx.scope, AcmeAccount, _account_id(place, message))
    jwk = stored_key(_of_here(found, place))
    _check_signature(message, jwk, None)
    entered = await _enter_known(house, place, message, jwk, subject)
    if entered is None:
        raise _bad_nonce(message)
    return entered


async def _enter_known(
    house: House, place: Place, message: Jws, seen: Jwk | None, subject: Subject
) -> tuple[Profile, Entered, Jwk] | None:
    """The same at once, where the signature was judged by the key that the account had lately: only then may its nonce
    be spent before the account is read. None where the nonce is such that nothing is spent.
    """
    ctx, nonce = house.state.ctx, message.header.get("nonce")
    until = house.nonces.until(nonce, ctx.now()) if isinstance(nonce, str) and seen is not None else None
    if until is None or not isinstance(nonce, str):
        return None
    account_id = _account_id(place, message)
    found = await acme_entering.enter(ctx.database, ctx.scope, (nonce, until), account_id, place.profile_id, subject)
    profile = _usable(found.profile, place)
    jwk = stored_key(_of_here(found.account, place))
    _check_signature(message, jwk, seen)
    if not found.spent:
        raise AcmeRefusal(ProblemType.BAD_NONCE, _SPENT)
    return profile, found, jwk


def _check_signature(message: Jws, jwk: Jwk, seen: Jwk | None) -> None:
    """By the account's key as it is now; `seen` is one by which it was judged good before."""
    if (seen is None or seen.canonical != jwk.canonical) and not jws.verify(message, jwk):
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "the signature does not verify with this key", status=401)


async def _count(house: House, place: Place, message: Jws, visit: Visit, address: str) -> Jwk | None:
    """Count a call before anything is looked up: by the account whose signature it is, which is the key that is told;
    else by where it came from. RateLimited when there were too many.

    An account that proved itself from there lately is known by the key that it had then. Who forges its name pays a
    signature's check, less than the connection cost, and is counted as what they are.
    """
    kid = message.header.get("kid")
    account_id = kid.rpartition("/")[2] if isinstance(kid, str) and kid.startswith(place.at("account", "")) else ""
    key = house.crowd.key_of(address, account_id)
    if key is None or not jws.verify(message, key):
        await visit.count()
        return None
    await _count_caller(house, account_id)
    return key


async def _count_caller(house: House, account_id: str) -> None:
    limits = house.state.rules.limits
    if limits.enabled:
        await house.state.limits.take("caller", f"acme:{account_id}", limits.caller)


def _accept(scope: HttpScope) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"accept"]
    return ", ".join(values)


def _check_url(message: Jws, place: Place, scope: HttpScope) -> None:
    """RFC 8555 6.4: what was signed for another address is not taken at this one."""
    url = message.header.get("url")
    if not isinstance(url, str) or len(url) > _MOST_URL:
        raise AcmeRefusal(ProblemType.MALFORMED, "the protected header has no url")
    query = scope.get("query_string", b"").decode("latin-1")
    if url != place.at(place.path) + (f"?{query}" if query else ""):
        detail = f"the url that was signed is not that of this request ({place.at(place.path)})"
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, detail, status=401)


def _account_id(place: Place, message: Jws) -> str:
    kid, prefix = message.header["kid"], place.at("account", "")
    if not isinstance(kid, str) or not kid.startswith(prefix) or len(kid) > _MOST_URL:
        raise AcmeRefusal(ProblemType.ACCOUNT_DOES_NOT_EXIST, f"kid is the address of an account ({prefix}...)")
    return kid.removeprefix(prefix)


def _of_here(found: AcmeAccount | None, place: Place) -> AcmeAccount:
    if found is None or found.profile_id != place.profile_id:
        raise AcmeRefusal(ProblemType.ACCOUNT_DOES_NOT_EXIST, "there is no such account here")
    return found


def stored_key(account: AcmeAccount) -> Jwk:
    """The key of an account."""
    return jws.read_jwk(msgspec.json.decode(account.jwk))


async def _spend(house: House, message: Jws) -> None:
    ctx, nonce = house.state.ctx, message.header.get("nonce")
    until = house.nonces.until(nonce, ctx.now()) if isinstance(nonce, str) else None
    if until is None or not await acme.spend_nonce(ctx.database, ctx.scope, str(nonce), until):
        raise _bad_nonce(message)


def _bad_nonce(message: Jws) -> AcmeRefusal:
    """What is wrong with the nonce of a message, whose sender is proven. Raises Malformed for one of no such form."""
    nonce = message.header.get("nonce")
    if nonce is None:
        return AcmeRefusal(ProblemType.BAD_NONCE, "the protected header has no nonce")
    if not isinstance(nonce, str):
        raise Malformed("the nonce is no text")
    # RFC 8555 6.5.2: what is not base64url is malformed
    jws.decode(nonce, "the nonce")
    return AcmeRefusal(ProblemType.BAD_NONCE, _SPENT)


async def count(tx: Tx, house: House, name: str, per_hour: int) -> None:
    """Count one act against an hourly limit that all replicas share; 0 is no limit. RateLimited refusal otherwise."""
    if per_hour <= 0:
        return
    ctx = house.state.ctx
    rate = Rate(per_second=per_hour / 3600, burst=per_hour)
    taken, wait = await rates.take(tx, ctx.scope, f"acme:{name}", rate, 1, ctx.now())
    if taken < 1:
        raise limited(f"more than {per_hour} an hour", wait)


def limited(what: str, seconds: float) -> AcmeRefusal:
    """Too many; come back then."""
    wait = timedelta(seconds=max(1.0, seconds))
    return AcmeRefusal(ProblemType.RATE_LIMITED, f"{what}; come back later", retry_after=wait)


def read_inner(data: object) -> Jws:
    """A JWS within a payload."""
    if not isinstance(data, dict):
        raise Malformed("a JWS is missing")
    try:
        return jws.read_jws(data)
    except msgspec.ValidationError as error:
        raise Malformed("the inner JWS is no flattened JWS") from error
