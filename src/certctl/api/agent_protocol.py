"""The agents' routes as a plain ASGI app: enrolment, heartbeat, long poll, CSR, results (see `wire.agent`).

An agent speaks for its own id alone (403), a retired one is told so (410), a protocol version that we do not speak is
refused with 400. Nothing is decided here: decode, authenticate, call the stage, encode. The edge answers errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from certctl.api.lookout import Lookout
from certctl.api.shown import shown
from certctl.client.models.agents import AgentCertificate, AgentView, VerifiedAnswer
from certctl.client.models.page import StatusAnswer
from certctl.control import enrolment, keys
from certctl.control.beats import Beats
from certctl.core.actor import Actor
from certctl.core.errors import CertctlError, Malformed, NotFound, Temporary, Violation
from certctl.core.status import JobStatus
from certctl.core.target import AgentRecord
from certctl.doors.body import decode_body
from certctl.doors.edge import (
    HttpScope,
    Receive,
    Send,
    address_of,
    caller_of,
    headers_of,
    knock_of,
    note_caller,
    note_refusal,
    request_id_of,
    send_answer,
)
from certctl.doors.entry import Visit, admit
from certctl.doors.errors import plain_refusal
from certctl.doors.groups import Groups
from certctl.doors.identity import authorise, bearer, own_agent
from certctl.doors.state import AppState
from certctl.doors.together import Together
from certctl.lifecycle import csrs, deploy, flow, plan, prepare, prove, verify
from certctl.lifecycle.reports import MOST_AT_ONCE, Report, SaidT
from certctl.pki.pem import certificate_pem
from certctl.policy.jitter import fraction_of
from certctl.store import views
from certctl.store.wake import Watch, agent_channel
from certctl.telemetry.logging import get_logger
from certctl.wire.agent import (
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    CsrReport,
    Enrolled,
    Enrolment,
    Heartbeat,
    ReferenceWork,
    StatusReport,
    VerifyReport,
    Work,
    WorkItem,
)

log = get_logger(__name__)

LONGEST_POLL_SECONDS = 60.0
# of the wait that it asked for, each agent gets a share of its own, at least this much: those that came at the same
# moment (a restart, a storm) would else come together again and again
LEAST_OF_A_POLL = 0.8
_MOST_ITEMS = 16
# an agent of the reference product works one thing after another, and its leases are long
_MOST_ITEMS_BY_KEY = 4
_DRIVE = timedelta(seconds=1.5)
_SOON_SECONDS = 5.0

BodyT = TypeVar("BodyT", bound=Struct)


class Call:
    """One call to one route: what came in, and the names that its path gave."""

    def __init__(self, door: AgentProtocol, scope: HttpScope, receive: Receive, names: dict[str, str]) -> None:
        self.state = door.state
        self.door = door
        self.beats = door.beats
        self.lookout = door.lookout
        self.due = door.due
        self.reconnect_seconds = door.reconnect_seconds
        self.scope = scope
        self.names = names
        self.headers = headers_of(scope)
        # set for an agent that calls with an API key bound to its id (the reference product's)
        self.key_owner = ""
        self.key_boot_id = ""
        self._receive = receive

    @property
    def address(self) -> str:
        """The peer's address."""
        return address_of(self.scope)

    @property
    def actor(self) -> Actor:
        """The agent that calls, as the event log names it."""
        caller = caller_of(self.scope)
        if caller is None:  # a bug: every route but enrolment authenticates first
            raise RuntimeError("the agent of this call is not known yet")
        return caller.actor

    async def agent(self, permission: str) -> AgentRecord:
        """The calling agent, authenticated, authorised, itself, and not retired."""
        caller = await admit(self.state, knock_of(self.scope))
        note_caller(self.scope, caller)
        authorise(caller, permission)
        agent_id = self.names.get("agent_id") or (caller.agent.id if caller.agent else "")
        agent = own_agent(caller, agent_id)
        enrolment.refuse_retired(agent)
        self.key_owner, self.key_boot_id = caller.key_owner, caller.key_boot_id
        return agent

    async def body(self, kind: type[BodyT]) -> BodyT:
        """The body as `kind`; fields unknown here are ignored, so that neighbouring versions understand each other."""
        return decode_body(await self.raw(), self.headers.get("content-type", ""), kind, strict=False)

    async def raw(self) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            parts.append(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return b"".join(parts)

    @contextlib.asynccontextmanager
    async def until_gone(self, watch: Watch) -> AsyncIterator[asyncio.Event]:
        """An event that is set, and `watch` told, when the client hangs up."""
        gone = asyncio.Event()

        async def listen() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            gone.set()
            watch.tell()

        task = asyncio.create_task(listen(), name="agent-hangs-up")
        try:
            yield gone
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


Answer = tuple[int, Any]
Handler = Callable[[Call], Awaitable[Answer]]


async def _enrol(call: Call) -> Answer:
    token = bearer(call.headers)
    if token.reveal().startswith(keys.PREFIX):
        return await _register(call)
    await Visit(call.state, call.address).count()
    said = await call.body(Enrolment)
    shared = call.state.agent_bootstrap_token
    is_shared = shared is not None and hmac.compare_digest(token.reveal().encode(), shared.reveal().encode())
    enrol = enrolment.enrol_by_shared_token if is_shared else enrolment.enrol
    agent, credential = await enrol(call.state.ctx, token, said, call.address, call.headers.get("idempotency-key", ""))
    return 201, Enrolled(id=agent.id, name=agent.name, credential=credential.reveal(), status=str(agent.status))


async def _register(call: Call) -> Answer:
    """The reference product's way: an operator's key makes the agent, which then calls with a key bound to its id."""
    caller = await admit(call.state, knock_of(call.scope))
    note_caller(call.scope, caller)
    authorise(caller, "agent.edit")
    agent = await enrolment.register(call.state.ctx, caller.actor, await call.body(Enrolment), "")
    return 201, shown(AgentView, agent)


async def _heartbeat(call: Call) -> Answer:
    agent = await call.agent("agent.heartbeat")
    raw = await call.raw()
    said = decode_body(raw, call.headers.get("content-type", ""), Heartbeat, strict=False) if raw else Heartbeat()
    _check_protocol(str(said.protocol))
    reply = await enrolment.heartbeat(call.state.ctx, call.beats, agent, said)
    reply.reconnect_seconds = round(call.reconnect_seconds, 1)
    return 200, reply


async def _work(call: Call) -> Answer:
    call.state.agents.refuse_a_queue()
    agent = await call.agent("agent.job.poll")
    query = parse_qs(call.scope.get("query_string", b"").decode("latin-1"))
    boot_id = query.get("boot_id", [""])[0][:64]
    if call.key_owner and not boot_id:
        jobs = await flow.work_for_key(call.state.ctx, agent, call.key_boot_id, _MOST_ITEMS_BY_KEY)
        await enrolment.seen(call.state.ctx, call.beats, agent, call.key_boot_id)
        return 200, ReferenceWork(jobs=jobs, count=len(jobs))
    items = await _wait_for_work(call, agent, boot_id, _seconds(query.get("wait", ["0"])[0]))
    return 200, Work(jobs=items, count=len(items), server_time=call.state.ctx.now().isoformat())


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        message = "wait must be a number of seconds, 0 or more"
        raise Malformed(message, violations=(Violation("wait_out_of_range", message, "wait"),))
    return min(seconds, LONGEST_POLL_SECONDS)


def own_share(seconds: float, agent_id: str) -> float:
    """How long a poll of `seconds` waits for this agent: always the same, and another for the next one."""
    return seconds * (LEAST_OF_A_POLL + (1 - LEAST_OF_A_POLL) * fraction_of(agent_id))


async def _wait_for_work(call: Call, agent: AgentRecord, boot_id: str, seconds: float) -> list[WorkItem]:
    """Register, then look, then wait, so that nothing falls between; the lookout makes up for lost hints."""
    ctx, clock = call.state.ctx, asyncio.get_running_loop()
    deadline = clock.time() + own_share(seconds, agent.id)
    with call.state.wakeups.watch(agent_channel(agent.id)) as watch:
        async with call.until_gone(watch) as gone:
            items: list[WorkItem] = []
            # a run that is new is written down, and frees what the last one held, whether there is work or not
            if agent.boot_id != boot_id:
                items = await flow.work_for(ctx, agent, boot_id, _MOST_ITEMS, just_read=True)
            elif await call.due.find(agent.id):
                items = await _claimed(call, agent, boot_id)
            await enrolment.seen(ctx, call.beats, agent, boot_id)
            # earlier boots have given their leases back by now
            agent = msgspec.structs.replace(agent, boot_id=boot_id)
            with call.lookout.waiting() if seconds and not items else contextlib.nullcontext():
                # one that comes to a server which is ending is answered at once, not kept to its end
                while not items and not call.state.draining.is_set() and (left := deadline - clock.time()) > 0:
                    told = await watch.wait(left)
                    if not told or gone.is_set() or call.state.draining.is_set():
                        break
                    items = await _claimed(call, agent, boot_id)
    return items


async def _claimed(call: Call, agent: AgentRecord, boot_id: str) -> list[WorkItem]:
    """What there is for an agent, claimed together with all that ask at the same time."""
    found = await call.door.claims.find(flow.Poll(agent, boot_id))
    return await flow.work_for(call.state.ctx, agent, boot_id, _MOST_ITEMS) if found is None else found


async def _csr(call: Call) -> Answer:
    agent = await call.agent("agent.job.poll")
    report = await call.body(CsrReport)
    member = None
    if report.step_id:
        asked = Report(agent, call.actor, report.job_id, report)
        member = await call.door.csrs.ask(asked, _DRIVE)
    if member is not None:
        return 202, StatusAnswer(status="csr_accepted" if member.version is None else "csr_signed")
    # the issue step is leased to this call with the commit that takes the CSR: no worker is woken for it
    ctx = flow.driving(call.state.ctx)
    job = await prepare.accept_csr(ctx, agent, call.actor, report, key_owner=call.key_owner)
    try:
        await flow.drive(ctx, job.id, _DRIVE)
        async with ctx.database.read() as tx:
            now = await views.job(tx, ctx.scope, job.id)
    except CertctlError as error:
        # the CSR is kept and a worker goes on with it: the agent has done its part
        log.warning("csr_accepted_but_not_driven", job_id=job.id, error=error)
        return 202, StatusAnswer(status="csr_accepted")
    return 202, StatusAnswer(status="csr_signed" if now.status == JobStatus.COMPLETED else "csr_accepted")


async def _certificate(call: Call) -> Answer:
    agent = await call.agent("cert.read")
    ctx, certificate_id = call.state.ctx, call.names["certificate_id"]
    async with ctx.database.read() as tx:
        current = await views.current_versions(tx, ctx.scope, certificate_id)
    mine = next((version for version in current if version.holder_id == agent.id), None)
    if mine is None:
        raise NotFound(f"certificate {certificate_id} has no version for this agent")
    return 200, AgentCertificate(certificate_pem=certificate_pem(mine.leaf_der) + mine.chain_pem)


async def _status(call: Call) -> Answer:
    agent = await call.agent("agent.job.complete")
    said = await call.body(StatusReport)
    ctx, job_id = call.state.ctx, call.names["job_id"]
    if said.plan is not None:
        await plan.report(ctx, agent, call.actor, job_id, said)
    elif said.proved is not None:
        await prove.report(ctx, agent, call.actor, job_id, said)
    elif said.status != "Completed" or not await _with_others(call.door.receipts, call, agent, said):
        await deploy.report(ctx, agent, call.actor, job_id, said, key_owner=call.key_owner)
    return 200, StatusAnswer(status="updated")


async def _with_others(door: Together[Report[SaidT], bool], call: Call, agent: AgentRecord, said: SaidT) -> bool | None:
    """What comes of a report that is taken with all that come at the same time; None for one that has to go alone."""
    if not said.step_id:
        return None
    return await door.find(Report(agent, call.actor, call.names["job_id"], said))


async def _verify(call: Call) -> Answer:
    agent = await call.agent("verification.run")
    said = await call.body(VerifyReport)
    job_id = call.names["job_id"]
    verified = await _with_others(call.door.looks, call, agent, said)
    if verified is None:
        by_key = bool(call.key_owner) and not said.step_id
        take = verify.observe_by_key if by_key else verify.report
        verified = await take(call.state.ctx, agent, call.actor, job_id, said)
    return 200, VerifiedAnswer(job_id=job_id, verified=verified, verified_at=call.state.ctx.now())


class AgentRoute(Struct, frozen=True):
    """One route: its path as people write it, and what it needs. `permission` empty means the enrolment token."""

    method: str
    path: str
    permission: str
    handler: Handler


ROUTES: tuple[AgentRoute, ...] = (
    AgentRoute("POST", "/api/v1/agents", "", _enrol),
    AgentRoute("POST", "/api/v1/agents/{agent_id}/heartbeat", "agent.heartbeat", _heartbeat),
    AgentRoute("GET", "/api/v1/agents/{agent_id}/work", "agent.job.poll", _work),
    AgentRoute("POST", "/api/v1/agents/{agent_id}/csr", "agent.job.poll", _csr),
    AgentRoute("GET", "/api/v1/agents/{agent_id}/certificates/{certificate_id}", "cert.read", _certificate),
    AgentRoute("POST", "/api/v1/agents/{agent_id}/jobs/{job_id}/status", "agent.job.complete", _status),
    AgentRoute("POST", "/api/v1/jobs/{job_id}/verify", "verification.run", _verify),
)
_SHARED = {"/api/v1/agents"}  # other methods of these paths are the REST API's
_BEFORE = ("/api/v1/agents", "/api/v1/jobs/")
_PATTERNS = [(route, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path))) for route in ROUTES]
_FOUND = "certctl.agent_route"

Matched = tuple[AgentRoute, dict[str, str]]


def _match(scope: HttpScope) -> Matched | None:
    """The route of a call and the names in its path; found once a call."""
    if _FOUND not in scope:
        path: str = scope["path"]
        routes = _PATTERNS if path.startswith(_BEFORE) else ()
        matches = ((route, pattern.fullmatch(path)) for route, pattern in routes)
        scope[_FOUND] = next(((route, match.groupdict()) for route, match in matches if match), None)
    found: Matched | None = scope[_FOUND]
    return found


def serves(scope: HttpScope) -> bool:
    """Whether a call is one of the agents'."""
    found = _match(scope)
    return found is not None and (found[0].method == scope["method"] or found[0].path not in _SHARED)


class AgentProtocol:
    """The ASGI app."""

    def __init__(self, state: AppState) -> None:
        self.state = state
        self.lookout = Lookout(state.ctx, state.wakeups)
        self.due = Together("agents-with-work", self._with_work)
        self.beats = Beats(state.ctx, state.draining)
        self.claims: Together[flow.Poll, list[WorkItem]] = Together(
            "claims", partial(flow.work_for_all, state.ctx, _MOST_ITEMS), most_at_once=MOST_AT_ONCE
        )
        self.receipts: Together[Report[StatusReport], bool] = Together(
            "receipts", partial(deploy.report_all, state.ctx), most_at_once=MOST_AT_ONCE
        )
        self.csrs: Groups[Report[CsrReport], csrs.Member] = Groups(
            "csrs", partial(csrs.intend, state.ctx), partial(csrs.finish, state.ctx), most_at_once=MOST_AT_ONCE
        )
        self.looks: Together[Report[VerifyReport], bool] = Together(
            "looks", partial(verify.report_all, state.ctx), most_at_once=MOST_AT_ONCE
        )

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Serve one call that `serves` said yes to."""
        found = _match(scope)
        if found is None:  # a bug: nobody asked `serves`
            raise RuntimeError("this is no call of an agent")
        route, names = found
        scope["path_template"] = route.path
        if route.method != scope["method"]:
            answer = note_refusal(
                scope,
                plain_refusal(
                    405,
                    "method_not_allowed",
                    f"this path takes {route.method}",
                    request_id_of(scope),
                    headers=(("Allow", route.method),),
                ),
            )
            await send_answer(send, answer.status, answer.headers, answer.body)
            return
        call = Call(self, scope, receive, names)
        _check_protocol(call.headers.get(PROTOCOL_HEADER.lower(), str(PROTOCOL_VERSION)))
        try:
            status, body = await route.handler(call)
        except Temporary as error:
            if error.retry_after is not None:
                raise
            # what a whole fleet is refused at once, it must not try again at once
            wait = _SOON_SECONDS + self.reconnect_seconds * random.random()  # noqa: S311 - spreads load, guards nothing
            raise Temporary(error.message, detail=error.detail, retry_after=timedelta(seconds=wait)) from error
        headers = (("Content-Type", "application/json"), (PROTOCOL_HEADER, str(PROTOCOL_VERSION)))
        await send_answer(send, status, (*headers, ("Cache-Control", "no-store")), msgspec.json.encode(body))

    @property
    def reconnect_seconds(self) -> float:
        """How long this process needs to take on again all agents that it has."""
        return len(self.lookout) / self.state.rules.handshakes_per_second

    async def _with_work(self, agent_ids: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(await flow.with_work(self.state.ctx, agent_ids), True)


def _check_protocol(version: str) -> None:
    if version != str(PROTOCOL_VERSION):
        message = (
            f"this server speaks agent protocol {PROTOCOL_VERSION}, the agent speaks {version[:16]!r}: "
            "bring agent and server to releases that share one (RFC 9110 15.5.22)"
        )
        raise Malformed(message, violations=(Violation("protocol_not_spoken", message, PROTOCOL_HEADER),))
