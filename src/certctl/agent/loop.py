"""The agent's life: settle what a crash left, then poll, work, report and give signs of life until told to stop.

Side by side: the poll fetches leased steps, each step is worked under its certificate's and its target's lock, one
sender a job empties the outbox, the heartbeat keeps leases alive. A failure of one never stops another. Ends with exit
code 0 on SIGTERM (steps in hand get a grace) and when the server says that this agent is retired.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from weakref import WeakValueDictionary

from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from certctl import __version__
from certctl.agent.backoff import MOST_SPREAD_SECONDS, Backoff
from certctl.agent.hand import Hand, Held
from certctl.agent.outbox import Entry, Outbox
from certctl.agent.server import POLL_SECONDS
from certctl.agent.steps import DEPLOY, KINDS, PREPARE, Steps, failure_report
from certctl.connectors.registry import TARGETS
from certctl.core.errors import CertctlError, Gone, NotAllowed, NotAuthenticated, Rejected, Temporary
from certctl.core.ids import check_id, uuid7
from certctl.telemetry import tracing
from certctl.telemetry.logging import get_logger
from certctl.telemetry.points import reach
from certctl.wire.agent import Heartbeat, HeartbeatReply, Work, WorkItem

log = get_logger(__name__)

CAPABILITIES = [*KINDS, *(f"target:{entry.kind}" for entry in TARGETS)]
_PRUNE_SECONDS = 24 * 3600.0
_LEAST_WAIT_SECONDS = 0.2
_MOST_CALLS = 4
_MOST_LEASES = 200
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class ServerCalls(Protocol):
    """What the loop asks of `agent.server`."""

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Give a sign of life."""
        ...

    async def work(self, boot_id: str) -> Work:
        """Wait for steps."""
        ...

    async def send(self, entry: Entry) -> None:
        """Hand over one result."""
        ...


class Pace(Struct, frozen=True, kw_only=True):
    """Times and bounds of the loop, in seconds; tests hand in shorter ones."""

    heartbeat_seconds: float = 30.0
    grace_seconds: float = 20.0
    last_send_seconds: float = 3.0
    quick_answer_seconds: float = 1.0
    poll_seconds: float = POLL_SECONDS
    most_steps: int = 4


class Loop:
    """One run of one agent."""

    def __init__(self, server: ServerCalls, steps: Steps, outbox: Outbox, pace: Pace) -> None:
        self.boot_id = uuid7()
        self._server = server
        self._steps = steps
        self._outbox = outbox
        self._pace = pace
        self._hand = Hand()
        self._slots = asyncio.Semaphore(pace.most_steps)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._working: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()  # hand or outbox may have room again
        self._taken = asyncio.Event()  # a step came into hand, or a beat is wanted before the next poll
        self._beaten = asyncio.Event()
        self._last_beat = 0.0
        self._early = False
        # how long the server needs to take on all its agents again, as it said last
        self._reconnect = timedelta(0)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._calls = asyncio.Semaphore(_MOST_CALLS)
        self._reachable = asyncio.Event()  # set by every success: whoever backs off may try at once
        self._signals = 0
        self._exit_code = 0

    async def run(self) -> int:
        """Live until SIGTERM, SIGINT or retirement; returns the process's exit code."""
        self._listen_for_signals()
        await self._steps.recover()
        self._steps.prune(datetime.now(UTC))
        log.info("agent.started", version=__version__, boot_id=self.boot_id, waiting_results=len(self._outbox))
        for job_id in self._outbox.jobs():
            self._send_results_of(job_id)
        # What was done before a crash is told before more is asked for.
        await self._wait_for_senders(self._pace.last_send_seconds)
        heartbeat = self._spawn(self._beat_forever(), "heartbeat")
        fetchers = [self._spawn(self._poll_forever(), "poll"), self._spawn(self._prune_forever(), "prune")]
        await self._stop.wait()
        await _cancel(fetchers)
        await self._finish_steps()
        self._reachable.set()
        await self._wait_for_senders(self._pace.last_send_seconds)
        await _cancel([heartbeat, *self._sending.values()])
        await self._steps.close()
        log.info("agent.stopped", waiting_results=len(self._outbox))
        return self._exit_code

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._end_with_trace)
        return task

    def _end_with_trace(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # A bug: say so and stop; the service manager starts a fresh run, which recovers.
            log.critical("agent.task_died", task=task.get_name(), exc_info=task.exception())
            self._exit_code = 1
            self._stop.set()

    # -- stopping ---------------------------------------------------------------------------------------------------

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_politely, number)

    def _stop_politely(self, number: int) -> None:
        self._signals += 1
        log.info("agent.stopping", signal=signal.Signals(number).name, steps_in_hand=len(self._hand))
        self._stop.set()
        if self._signals > 1:
            for task in self._working:
                task.cancel()

    def _retire(self, error: Gone) -> None:
        log.warning("agent.retired", error=error)
        self._stop.set()

    async def _finish_steps(self) -> None:
        if not self._working:
            return
        _, late = await asyncio.wait(set(self._working), timeout=self._pace.grace_seconds)
        for task in late:
            log.warning("agent.step_left_unfinished", step=task.get_name(), grace_seconds=self._pace.grace_seconds)
        await _cancel(list(late))

    # -- polling and working ----------------------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        backoff, quick = Backoff(), Backoff()
        while True:
            while len(self._hand) >= self._pace.most_steps or self._outbox.full:
                self._changed.clear()
                await self._changed.wait()
            await self._beat_between_polls()
            begun = time.monotonic()
            try:
                work = await self._server.work(self.boot_id)
            except Gone as error:
                self._retire(error)
                return
            except CertctlError as error:
                await self._back_off(backoff, "agent.poll_failed", error)
                continue
            backoff.succeeded()
            self._reachable.set()
            for item in work.jobs:
                self._accept(item)
            if work.jobs or time.monotonic() - begun >= self._pace.quick_answer_seconds:
                quick.succeeded()
            else:
                # A server that does not hold the poll open must not be asked in a tight loop.
                await asyncio.sleep(quick.failed())

    async def _beat_between_polls(self) -> None:
        """A beat that would fall into the next poll goes before it, over the same connection: while there is nothing
        to do an agent keeps one, not two. A server that is slow to answer is not waited for.
        """
        if len(self._hand) or time.monotonic() + self._pace.poll_seconds < (
            self._last_beat + self._pace.heartbeat_seconds
        ):
            return
        self._beaten.clear()
        self._early = True
        self._taken.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._beaten.wait(), self._pace.quick_answer_seconds)

    def _accept(self, item: WorkItem) -> None:
        try:
            check_id(item.step_id, "step_id")
            check_id(item.id, "id")
        except CertctlError as error:
            log.error("agent.work_item_refused", error=error)  # noqa: TRY400 - an expected kind, told in one line
            return
        if self._outbox.holds(item.step_id, item.fence):
            return  # its sender is at it
        held = self._hand.take(item)
        if held is None:
            return
        task = asyncio.create_task(self._work(held), name=f"{item.step_kind} {item.step_id}")
        self._working.add(task)
        self._taken.set()
        task.add_done_callback(self._working.discard)
        self._changed.set()

    async def _work(self, held: Held) -> None:
        bound = log.bind(job_id=held.item.id, step_id=held.item.step_id, step_kind=held.item.step_kind)
        try:
            async with self._locked(held.item), self._slots:
                if held.lost:
                    bound.info("agent.step_passed_on")
                    return
                await self._work_and_keep(held, bound)
        except Exception:
            # The disk is full, most likely: the lease lapses and the step comes again.
            bound.exception("agent.result_could_not_be_kept")
        finally:
            self._hand.release(held)
            self._changed.set()

    async def _work_and_keep(self, held: Held, bound: FilteringBoundLogger) -> None:
        """Work one step and keep its result in the outbox, whatever it is."""
        item, begun, done = held.item, time.monotonic(), False
        with tracing.span(item.step_kind, parent=item.traceparent, kind="consumer", **_facts(item)) as span:
            try:
                report = await self._steps.work(item)
                done = True
                bound.info("agent.step_done", seconds=round(time.monotonic() - begun, 3))
            except CertctlError as error:
                bound.warning("agent.step_failed", error=error)
                span.failed(error.code)
                report = failure_report(item, error)
            except Exception as error:
                bound.exception("agent.step_met_a_bug")
                span.failed("internal")
                report = failure_report(item, error)
            report.fence = held.fence
            # an agent that traces nothing itself still hands the trace on
            self._outbox.add(item.id, item.step_id, report, tracing.traceparent() or item.traceparent)
        reach(f"agent.{item.step_kind}.kept")
        self._send_results_of(item.id)
        if done:
            self._steps.settle(item)
        if item.step_kind == DEPLOY:
            # A failure may have left a journal: it is looked at now, and if that fails too, at the next start.
            await self._steps.recover(item.plan_id)
            self._steps.prune(datetime.now(UTC))

    @contextlib.asynccontextmanager
    async def _locked(self, item: WorkItem) -> AsyncIterator[None]:
        """Hold the certificate's lock, then the target's: always in this order, so that no two steps wait in a ring."""
        names = [f"certificate:{item.certificate_id}"] if item.step_kind in {PREPARE, DEPLOY} else []
        names += [f"target:{item.target_id}"] if item.target_id else []
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                lock = self._locks.get(name)
                if lock is None:
                    lock = self._locks[name] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield

    # -- reporting --------------------------------------------------------------------------------------------------

    def _send_results_of(self, job_id: str) -> None:
        """See that somebody is sending this job's results; one sender a job keeps their order."""
        if job_id not in self._sending:
            self._sending[job_id] = self._spawn(self._send_job(job_id), f"send {job_id}")

    async def _send_job(self, job_id: str) -> None:
        backoff = Backoff()
        while (entry := self._outbox.first_of(job_id)) is not None:
            bound = log.bind(job_id=entry.job_id, step_id=entry.step_id, result=entry.kind)
            try:
                async with self._calls:
                    await self._server.send(entry)
                bound.debug("agent.result_sent")
                self._reachable.set()
            except (Rejected, Gone) as error:
                # Final: a stale fence, or a job that is no more. Asking again would be answered the same.
                bound.warning("agent.result_refused", error=error)
            except CertctlError as error:
                await self._back_off(backoff, "agent.result_waits", error)
                continue
            reach("agent.outbox.sent")
            try:
                self._outbox.remove(entry)
            except CertctlError as error:
                # The disk is in trouble. Sent again, the result is refused as stale, and then it goes.
                await self._back_off(backoff, "agent.result_cannot_be_removed", error)
                continue
            backoff.succeeded()
            self._changed.set()
        # No await stands between the last look and the end of this task's own entry, so no result is overlooked.
        self._sending.pop(job_id, None)

    async def _wait_for_senders(self, seconds: float) -> None:
        if self._sending:
            await asyncio.wait(set(self._sending.values()), timeout=seconds)

    # -- signs of life ----------------------------------------------------------------------------------------------

    async def _beat_forever(self) -> None:
        backoff = Backoff()
        facts = host_facts()
        while True:
            try:
                reply = await self._server.heartbeat(
                    Heartbeat(
                        version=__version__,
                        boot_id=self.boot_id,
                        hostname=facts.hostname,
                        os=facts.os,
                        architecture=facts.architecture,
                        capabilities=CAPABILITIES,
                        leases=[*self._hand.leases(), *self._outbox.leases()[:_MOST_LEASES]],
                    )
                )
            except Gone as error:
                self._retire(error)
                return
            except CertctlError as error:
                await self._back_off(backoff, "agent.heartbeat_failed", error)
                continue
            backoff.succeeded()
            self._reachable.set()
            for held in self._hand.lose(reply.lost):
                log.info("agent.lease_lost", job_id=held.item.id, step_id=held.item.step_id)
            self._reconnect = timedelta(seconds=max(0.0, min(reply.reconnect_seconds, MOST_SPREAD_SECONDS)))
            self._last_beat, self._early = time.monotonic(), False
            self._beaten.set()
            await self._until_next_beat(self._last_beat)

    async def _until_next_beat(self, last: float) -> None:
        while (
            not self._early
            and (wait := last + self._hand.beat_seconds(self._pace.heartbeat_seconds) - time.monotonic()) > 0
        ):
            # A step taken meanwhile may have a shorter lease: its coming wakes this, and the wait is reckoned anew.
            self._taken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._taken.wait(), wait)

    # -- failing and coming back ------------------------------------------------------------------------------------

    async def _back_off(self, backoff: Backoff, event: str, error: CertctlError) -> None:
        # whoever holds a lease comes back at once: the others leave room for it
        held = bool(self._hand.leases() or self._outbox.leases())
        spread = timedelta(0) if held or not isinstance(error, Temporary) else self._reconnect
        wait = backoff.failed(error.retry_after if isinstance(error, Temporary) else None, spread)
        if held and not (isinstance(error, Temporary) and error.retry_after):
            # and tries again while its lease may still be kept, however long the server has been away
            wait = min(wait, self._hand.beat_seconds(self._pace.heartbeat_seconds))
        loud = backoff.failures in {1, 5} or backoff.failures % 20 == 0
        refused = isinstance(error, NotAuthenticated | NotAllowed)
        level = "error" if refused and loud else "warning" if loud else "debug"
        getattr(log, level)(event, error=error, failures=backoff.failures, again_in_seconds=round(wait, 2))
        self._reachable.clear()
        least = wait if isinstance(error, Temporary) and error.retry_after else min(wait, _LEAST_WAIT_SECONDS)
        await asyncio.sleep(least)
        with contextlib.suppress(TimeoutError):
            # Somebody else's call went through: the server is back, no need to wait longer.
            await asyncio.wait_for(self._reachable.wait(), wait - least)

    async def _prune_forever(self) -> None:
        while True:
            await asyncio.sleep(_PRUNE_SECONDS)
            self._steps.prune(datetime.now(UTC))


class HostFacts(Struct, frozen=True):
    """Host name, system and architecture in the reference product's words."""

    hostname: str
    os: str
    architecture: str


def _facts(item: WorkItem) -> tracing.Facts:
    """What the span of a step says."""
    return {
        "job_id": item.id,
        "job_type": item.type,
        "step_id": item.step_id,
        "certificate_id": item.certificate_id,
        "target_id": item.target_id,
        "attempt": item.attempt,
    }


def host_facts() -> HostFacts:
    """What this host calls itself."""
    names = os.uname()
    return HostFacts(names.nodename, names.sysname.lower(), _ARCHITECTURES.get(names.machine, names.machine))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
