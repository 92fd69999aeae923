"""Fills an installation that holds nothing yet with the sample fleet, in the order in which it would have happened.

Bulk history is written in transactions of a few hundred issuances, each with how far it has come, so that whoever was
cut off goes on; what is rare (revocations, approvals, refusals, imports) goes through the lifecycle itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from certctl.control.enrolment import digest
from certctl.core.certificate import Certificate
from certctl.core.errors import Conflict
from certctl.core.events import Event, EventType
from certctl.core.secret import Secret
from certctl.core.status import AgentStatus, CertificateStatus
from certctl.ledger import append_dated, seal
from certctl.lifecycle import flow, request, revoke
from certctl.lifecycle.context import Context
from certctl.sample import FACT, MARK, ending, estate, rows
from certctl.sample.plan import Cycle, Fate, HostPlan, Life, PlacePlan, Plan, Waiting, make_plan
from certctl.sample.signing import Signing
from certctl.sample.target import config_of
from certctl.store import authority, names, sample, schema
from certctl.store.tx import Tx

_AT_ONCE = 200
_AFTER_SILENCE = timedelta(minutes=5)
_RULES_AGO = timedelta(days=5)

Credential = Callable[[str], Secret]
Tell = Callable[[str, int, int], None]


class Progress(Struct, kw_only=True):
    """What the installation remembers of its fleet. `born` is the moment that the fleet is as of."""

    seed: int
    certificates: int
    born: datetime
    done: int = 0
    is_whole: bool = False


class MovingClock:
    """Tells the moment that the fill has come to."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        """That moment."""
        return self.moment


class _Turn(Struct, frozen=True):
    """Something to be done at its moment: an issuance, an event of a host, or an act through the lifecycle."""

    at: datetime
    what: Cycle | Waiting | HostPlan | Callable[[], Awaitable[None]]


async def remembered(ctx: Context) -> Progress | None:
    """How far a fill has come here; None where there is no sample."""
    async with ctx.database.read() as tx:
        kept = await authority.get_fact(tx, ctx.scope, FACT)
    return msgspec.json.decode(kept, type=Progress) if kept else None


async def begin(ctx: Context, seed: int, certificates: int, now: datetime) -> Progress:
    """Claim an installation for samples. Conflict when it holds anything that is somebody's, or another fleet."""
    known = await remembered(ctx)
    if known is None:
        async with ctx.database.begin("sample.begin") as tx:
            if theirs := await sample.somebodys(tx, ctx.scope):
                raise Conflict(f"this installation is in use ({theirs}): a sample fleet is never written beside it")
            known = Progress(seed=seed, certificates=certificates, born=now)
            await sample.write_fact(tx, ctx.scope, FACT, msgspec.json.encode(known), now)
    elif (known.seed, known.certificates) != (seed, certificates):
        raise Conflict(
            f"this installation holds the sample fleet of seed {known.seed} with {known.certificates} certificates; "
            "ask for the same, or for another directory"
        )
    return known


class Fill:
    """One fill, from where the last one stopped."""

    def __init__(self, ctx: Context, clock: MovingClock, known: Progress, credential: Credential, tell: Tell) -> None:
        # what the lifecycle does by itself here is marked too
        self._ctx, self._clock, self._known = dataclasses.replace(ctx, actor=rows.CERTCTL), clock, known
        self._credential, self._tell = credential, tell
        self.plan: Plan = make_plan(known.seed, known.certificates, known.born)
        self._lives: set[str] = set()

    async def run(self) -> None:
        """All of it."""
        ctx, plan = self._ctx, self.plan
        self._clock.moment = plan.begins
        await estate.furnish(ctx)
        signing = Signing(ctx, plan.seed, await estate.known_profiles(ctx))
        turns = self._turns()
        self._lives = {turn.what.life.id for turn in turns[: self._known.done] if isinstance(turn.what, Cycle)}
        while self._known.done < len(turns):
            await self._some(signing, turns)
            self._tell("issuing", self._known.done, len(turns))
        self._clock.moment = plan.now
        await ending.settle(ctx, plan)
        self._tell("deciding", 0, 0)
        await ending.furnish(ctx, plan)
        self._tell("sealing", 0, 0)
        while await seal.seal(ctx.database, ctx.scope, ctx.keybox, plan.now):
            pass
        async with ctx.database.begin("sample.whole") as tx:
            self._known.is_whole = True
            await self._remember(tx)
            await sample.refresh_statistics(tx)

    def _turns(self) -> list[_Turn]:
        plan = self.plan
        found = [_Turn(cycle.begins, cycle) for cycle in plan.cycles]
        found += [_Turn(one.begins, one) for one in plan.waiting]
        found += [_Turn(host.enrolled_at, host) for host in plan.hosts]
        found += [_Turn(life.ended_at, self._end_of(life)) for life in plan.lives if life.fate in _ENDS]
        found += [_Turn(at, self._over(name, algorithm)) for at, name, algorithm in estate.generations(plan)]
        found.append(_Turn(plan.now - _RULES_AGO, self._rule))
        found += [_Turn(at, self._of_host(at, kind, host)) for at, kind, host in _fates_of_hosts(plan)]
        return sorted(found, key=lambda turn: turn.at)

    async def _some(self, signing: Signing, turns: list[_Turn]) -> None:
        """One act, or the issuances up to the next one."""
        done = self._known.done
        first = turns[done].what
        if callable(first):
            self._clock.moment = turns[done].at
            await first()
            await self._advance(rows.Batch(), done + 1)
            return
        batch = rows.Batch()
        await signing.use_newest()
        end = done
        while end < len(turns) and end - done < _AT_ONCE and not callable(turns[end].what):
            what = turns[end].what
            if isinstance(what, HostPlan):
                self._enrol(batch, what)
            elif isinstance(what, Waiting):
                rows.waits(
                    batch, what, signing.body(what.life, replaces_id=what.replaces_id, reason="window_has_begun")
                )
            elif isinstance(what, Cycle):
                body, signed = await signing.sign(what)
                if what.life.id not in self._lives:
                    self._create(batch, what.life, signed.not_after)
                rows.issued(batch, what, body, signed)
                found = names.version_rows(
                    self._ctx.scope.tenant_id, what.life.id, signed.serial_number, signed.fingerprint
                )
                batch.rows[schema.certificate_names.name] += found
            end += 1
        await self._advance(batch, end)

    async def _advance(self, batch: rows.Batch, done: int) -> None:
        ctx = self._ctx
        async with ctx.database.begin("sample.some") as tx:
            await sample.insert(tx, ctx.scope, batch.rows)
            await append_dated(tx, ctx.scope, sorted(batch.events, key=lambda dated: dated[0]))
            self._known.done = done
            await self._remember(tx)

    async def _remember(self, tx: Tx) -> None:
        await sample.write_fact(tx, self._ctx.scope, FACT, msgspec.json.encode(self._known), self._known.born)

    def _enrol(self, batch: rows.Batch, host: HostPlan) -> None:
        last = host.silent_since or host.retired_at or self.plan.now
        gone = host.silent_since is not None or host.retired_at is not None
        batch.add(
            schema.agents.name,
            id=host.id, name=host.name, hostname=f"{host.name}.example.com",
            status=str(AgentStatus.OFFLINE if gone else AgentStatus.ONLINE), last_heartbeat_at=last,
            registered_at=host.enrolled_at, os="linux", architecture="arm64" if host.port == 8443 else "amd64",
            ip_address=host.address, version=MARK, protocol=1, capabilities=[], agent_group=host.group,
            boot_id="", credential_hash=digest(self._credential(host.id)), retired_at=host.retired_at,
            retired_reason="the machine was taken away" if host.retired_at else "",
        )  # fmt: skip
        details = {"name": host.name, "hostname": f"{host.name}.example.com"}
        batch.events.append((host.enrolled_at, _of_agent(EventType.AGENT_ENROLLED, host, details, by_agent=True)))

    def _create(self, batch: rows.Batch, life: Life, not_after: datetime) -> None:
        self._lives.add(life.id)
        tenant = self._ctx.scope.tenant_id
        batch.add(
            schema.certificates.name,
            **{name: value for name, value in _blank(life, not_after).items() if name != "tenant_id"},
        )
        batch.rows[schema.certificate_names.name] += names.own_rows(tenant, life.id, life.name, life.name, life.sans)
        for place in life.places:
            self._place(batch, life, place)
        for place in life.mapped:
            batch.add(schema.certificate_targets.name, certificate_id=life.id, target_id=place.id)

    def _place(self, batch: rows.Batch, life: Life, place: PlacePlan) -> None:
        batch.add(
            schema.targets.name,
            id=place.id, name=place.name, type=place.host.target_type, agent_id=place.host.id,
            config=config_of(place, life.name), sealed_config=None, enabled=True, last_tested_at=None,
            test_status="untested", source="database", retired_at=None, retired_reason="", row_version=1,
            created_at=life.born, updated_at=life.born,
        )  # fmt: skip
        made = Event(
            type=EventType.CONFIG_CREATED, subject_type="target", subject_id=place.id, actor=estate.PEOPLE, details={}
        )  # fmt: skip
        batch.events.append((life.born, made))

    def _end_of(self, life: Life) -> Callable[[], Awaitable[None]]:
        async def end() -> None:
            ctx = self._ctx
            if life.fate is Fate.ARCHIVED:
                await request.archive(ctx, ctx.scope, estate.PEOPLE, life.id)
                return
            reason = ("superseded", "cessationOfOperation", "keyCompromise")[life.number % 3]
            job = await revoke.trigger(ctx, ctx.scope, estate.PEOPLE, life.id, reason=reason)
            await flow.drive(ctx, job.id)

        return end

    def _over(self, name: str, algorithm: str) -> Callable[[], Awaitable[None]]:
        async def over() -> None:
            await estate.take_over(self._ctx, name, algorithm)

        return over

    async def _rule(self) -> None:
        await estate.rule(self._ctx)

    def _of_host(self, at: datetime, kind: EventType, host: HostPlan) -> Callable[[], Awaitable[None]]:
        async def tell() -> None:
            details = {"name": host.name}
            if kind is EventType.AGENT_SILENT and host.silent_since is not None:
                details = {"last_heartbeat_at": host.silent_since.isoformat()}
            async with self._ctx.database.begin("sample.host") as tx:
                await append_dated(tx, self._ctx.scope, [(at, _of_agent(kind, host, details))])

        return tell


_ENDS = frozenset({Fate.REVOKED, Fate.ARCHIVED})


def _fates_of_hosts(plan: Plan) -> list[tuple[datetime, EventType, HostPlan]]:
    silent = [
        (host.silent_since + _AFTER_SILENCE, EventType.AGENT_SILENT, host) for host in plan.hosts if host.silent_since
    ]
    return silent + [(host.retired_at, EventType.AGENT_RETIRED, host) for host in plan.hosts if host.retired_at]


def _of_agent(kind: EventType, host: HostPlan, details: dict[str, str], *, by_agent: bool = False) -> Event:
    actor = rows.agent(host.id) if by_agent else rows.CERTCTL if kind is EventType.AGENT_SILENT else estate.PEOPLE
    return Event(type=kind, subject_type="agent", subject_id=host.id, actor=actor, details=details)


def _blank(life: Life, not_after: datetime) -> dict[str, object]:
    """The certificate's row; what it reads as is settled in the end."""
    certificate = Certificate(
        tenant_id="",
        id=life.id,
        name=life.name,
        common_name=life.name,
        sans=list(life.sans),
        environment=life.environment,
        owner_id=life.owner_id,
        team_id=life.team.id,
        issuer_id=rows.ISSUER,
        renewal_policy_id=life.kind.policy_id,
        certificate_profile_id=life.kind.profile_id,
        validity_seconds=None,
        status=CertificateStatus.ACTIVE,
        status_reason="",
        expires_at=not_after,
        tags={"made-by": MARK},
        last_renewal_at=life.born,
        last_deployment_at=life.born if life.mapped else None,
        revoked_at=None,
        revocation_reason="",
        next_check_at=None,
        failures=0,
        last_failure_at=None,
        source="api",
        row_version=1,
        created_at=life.born,
        updated_at=life.born,
    )
    return {name: getattr(certificate, name) for name in certificate.__struct_fields__}
