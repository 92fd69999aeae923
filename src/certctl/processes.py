"""The processes of a control plane: listeners, worker and ticks in each; a supervisor over several.

One process runs by itself. Several (PostgreSQL only) share nothing but the database, each with its own SO_REUSEPORT
socket;
the supervisor starts them again when they die. SIGHUP loads the TLS certificate anew and drops no connection; SIGTERM
drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import structlog
import uvicorn
import uvloop

from certctl import __version__
from certctl.api.app import create_api
from certctl.bootstrap import SERVER_OWNER, House, open_house, prepare_database
from certctl.connectors.base.receiver import Receiver
from certctl.connectors.receivers import receivers_of
from certctl.connectors.validation import Prover
from certctl.control import batches, ca_accounts, digest, job_pruning, own_tls
from certctl.control.audit_pruning import prune_due
from certctl.control.audit_push import push_all
from certctl.control.installation import BUILT_IN_ISSUER
from certctl.core.errors import CertctlError, Misconfigured
from certctl.doors.accepting import Accepting
from certctl.doors.state import AppState
from certctl.lifecycle import flow, observe
from certctl.protocols import acme, answering
from certctl.protocols.acme import AcmeApp
from certctl.protocols.acme.sweeping import sweep
from certctl.protocols.acme.validating import Validator
from certctl.protocols.pki import PkiApp
from certctl.protocols.pki.answers import KeptAnswers, KeptStatuses, RevocationWatch
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.settings import Settings
from certctl.store.database_clock import DatabaseClock
from certctl.store.wake import listening
from certctl.telemetry.process import ProcessFigures
from certctl.telemetry.tally import Tally
from certctl.web.app import create_web, with_web
from certctl.web.warm import warm
from certctl.worker.batches import BatchRunner
from certctl.worker.counting import Counting
from certctl.worker.runner import Runner
from certctl.worker.runtime import RuntimeMetrics, time_the_loop
from certctl.worker.schedule import Schedule, Tick, standard_ticks

log = structlog.get_logger(__name__)

_DRAIN_SECONDS = 20
_CHILD = "CERTCTL_SERVER_CHILD"
_RESTART_SECONDS = 1.0
_OWN_TLS_EVERY_SECONDS = 600
_IDLE_CHECK_SECONDS = 0.2
_CLOCK_EVERY_SECONDS = 5
_PUSH_EVERY = timedelta(seconds=2)
_PRUNE_EVERY = timedelta(hours=1)
# each run passes over what is needed still, however much that is
_PRUNE_JOBS_EVERY = timedelta(hours=6)


def serve(settings: Settings) -> int:
    """Run until told to stop; returns the exit code."""
    if settings.processes > 1 and _CHILD not in os.environ:
        if settings.embedded:
            raise Misconfigured("SQLite takes one server process; use PostgreSQL or set CERTCTL_SERVER_PROCESSES=1")
        return _supervise(settings.processes)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def migrate_only(settings: Settings, *, first_install: bool) -> None:
    """Bring the database to this release and seed it; opens no listener, scheduler or signer."""
    revision = await prepare_database(settings, first_install=first_install)
    if revision:
        log.info("migrated", revision=revision)


async def _serve(settings: Settings) -> None:
    # ports first: a taken one is said before anything else is opened
    with (
        listen(settings.host, settings.port, "CERTCTL_SERVER_PORT") as tls_socket,
        listen(settings.pki_http_host, settings.pki_http_port, "CERTCTL_PKI_HTTP_PORT") as pki_socket,
    ):
        async with open_house(settings) as house:
            await _run(house, tls_socket, pki_socket)


async def _run(house: House, tls_socket: socket.socket, pki_socket: socket.socket) -> None:
    settings, ctx = house.settings, house.ctx
    if settings.embedded:
        # before anything is issued: a step that a killed run held must not wait for its lease
        await flow.free_earlier_runs(ctx, SERVER_OWNER)
        await batches.free_earlier_runs(ctx, SERVER_OWNER)
    cert_path, key_path = await _tls_files(house)
    tally, revocations = Tally(), RevocationWatch(ctx, house.wakeups)
    state = _state(house)
    public = _public(house, revocations, tally)
    tls = uvicorn.Config(
        _every_door(state, settings, public, tally), **_uvicorn(), ssl_certfile=cert_path, ssl_keyfile=key_path
    )
    paced = _PacedServer(tls, settings.doors.handshakes_per_second)
    servers: list[tuple[_Server, socket.socket]] = [
        (paced, tls_socket),
        (_Server(uvicorn.Config(public, **_uvicorn())), pki_socket),
    ]
    loops: dict[str, _Loop] = {
        "runner": Runner(ctx, house.wakeups),
        "schedule": Schedule(ctx, _ticks(settings, state.audit_receivers), state.watch.lease_granted),
        "counting": Counting(ctx, tally),
        "batches": BatchRunner(ctx, house.wakeups),
        "revocations": revocations,
    }
    if settings.acme.enabled:
        loops["acme-validation"] = Validator(ctx, house.wakeups, settings.acme, Prover(settings.acme))
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        servers += _runtime_metrics(house, state.figures, stack)
        await stack.enter_async_context(listening(house.database, house.wakeups))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        _on_signals(stop, tls, cert_path, key_path)
        serving = [group.create_task(server.serve(sockets=[at])) for server, at in servers]
        for name, loop in loops.items():
            group.create_task(loop.run(), name=name)
        # these have nothing in hand that has to be finished
        cancelled = [
            group.create_task(_keep_own_tls(house, tls, stop), name="own-tls"),
            group.create_task(time_the_loop(state.figures), name="loop-timing"),
            group.create_task(_keep_clock(house), name="clock"),
            group.create_task(_first_ended(serving, stop), name="watcher"),
            group.create_task(warm(state), name="warm-pages"),
        ]
        _collect_rarely()
        _announce(settings, tls_socket, pki_socket)
        await stop.wait()
        log.info("draining")
        state.drain()
        for server, _ in servers:
            server.should_exit = True
        for loop in loops.values():
            loop.stop()
        for task in cancelled:
            task.cancel()
    log.info("stopped")


def _collect_rarely() -> None:
    """What is there by now stays: the collector of garbage need not walk over it. Nor often over all that comes later:
    with the connections of thousands of agents that stops the process for half a second, to find a hundred objects.
    Most garbage has no cycles and needs no collector; what has dies young, in the first two generations.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def _public(house: House, revocations: RevocationWatch, tally: Tally) -> Any:
    """What both ports serve to everybody: CRLs, OCSP, and answers to a CA's challenges."""
    ctx = house.ctx
    facts = LifecycleFacts(ctx, KeptStatuses(revocations))
    pki = PkiApp(facts, clock=ctx.clock, tally=tally, answers=KeptAnswers(revocations))
    return _open_to_all(pki, answering.AnsweringApp(ca_accounts.Answers(lambda: ctx).get))


def _state(house: House) -> AppState:
    settings = house.settings
    return AppState(
        ctx=house.ctx,
        wakeups=house.wakeups,
        max_body_bytes=settings.max_body_bytes,
        bootstrap_token=house.bootstrap_token or None,
        agent_bootstrap_token=settings.agent_bootstrap_token or None,
        version=__version__,
        started_at=house.ctx.now(),
        rules=settings.doors,
        audit_receivers=receivers_of(settings.audit),
        reader=house.reader,
    )


def _every_door(state: AppState, settings: Settings, public: Any, tally: Tally) -> Any:
    """What the TLS port serves: API and pages, ACME, and all that is public."""
    acme_app = acme.behind_its_edge(AcmeApp(state, settings.acme, tally), state, settings.acme)
    return _with_protocols(with_web(create_api(state), create_web(state)), public, acme_app)


def _runtime_metrics(
    house: House, figures: ProcessFigures, stack: contextlib.AsyncExitStack
) -> list[tuple[_Server, socket.socket]]:
    """The listener for this process's own figures, if one is wanted: of several processes, each on the next port."""
    settings = house.settings
    figures.watch_pool(settings.database_max_connections, house.database.connections_in_use)
    if not settings.runtime_metrics_port:
        return []
    port = settings.runtime_metrics_port + int(os.environ.get(_CHILD, "0"))
    at = stack.enter_context(listen(settings.runtime_metrics_host, port, "CERTCTL_RUNTIME_METRICS_PORT"))
    return [(_Server(uvicorn.Config(RuntimeMetrics(figures), **_uvicorn())), at)]


def _ticks(settings: Settings, receivers: Sequence[Receiver]) -> Any:
    ticks = standard_ticks(
        renewal=settings.renewal_check_interval,
        agent_health=settings.agent_health_check_interval,
        crl=settings.crl_generation_interval,
        sweep=settings.session_gc_interval,
        batches_kept=settings.batch_retention,
        walking=settings.audit_verify_interval,
        telling=settings.alerts.process_interval,
        lapsing=settings.job_timeout_interval,
    )
    if receivers:
        ticks = (*ticks, Tick("audit.push", _PUSH_EVERY, partial(push_all, receivers=receivers)))
    if settings.audit_retention:
        names = [receiver.name for receiver in receivers]
        due = partial(prune_due, kept=settings.audit_retention, receivers=names)
        ticks = (*ticks, Tick("audit.prune", _PRUNE_EVERY, due))
    if settings.job_retention:
        ended = partial(job_pruning.prune_due, kept=settings.job_retention)
        ticks = (*ticks, Tick("jobs.prune", _PRUNE_JOBS_EVERY, ended))
    if settings.acme.enabled:
        ticks = (*ticks, Tick("acme", settings.acme.gc_interval, sweep))
    if settings.health.enabled:
        kept = Tick("health.history", timedelta(hours=1), observe.purge)
        ticks = (*ticks, Tick("health", settings.health.interval, observe.look), kept)
    if settings.alerts.digest_enabled:
        every = settings.alerts.digest_interval
        ticks = (*ticks, Tick("digest", every, partial(digest.send_due, every=every)))
    return ticks


def _uvicorn() -> dict[str, Any]:
    return {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "http": "httptools",
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": _DRAIN_SECONDS,
    }


class _Loop(Protocol):
    """What runs beside the listeners until it is told to stop, and then finishes what it has in hand."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one place decides when everything stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, then cut what is idle: a TLS peer that never answers close_notify must not hold us up."""
        closing = asyncio.create_task(super().shutdown(sockets))
        while not closing.done():
            await asyncio.sleep(_IDLE_CHECK_SECONDS)
            for connection in list(self.server_state.connections):
                held: Any = connection
                if held.cycle is None or held.cycle.response_complete:
                    held.transport.abort()
        await closing


class _PacedServer(_Server):
    """One whose TLS connections are taken on at a bounded pace."""

    def __init__(self, config: uvicorn.Config, handshakes_per_second: int) -> None:
        super().__init__(config)
        self._pace = handshakes_per_second

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's own, which lets asyncio accept whatever comes."""
        await self.lifespan.startup()
        config, state = self.config, self.server_state

        def make() -> asyncio.Protocol:
            kind: Any = config.http_protocol_class
            return cast("asyncio.Protocol", kind(config=config, server_state=state, app_state=self.lifespan.state))

        if config.ssl is None:  # a bug: this one is for TLS
            raise RuntimeError("no TLS configuration")
        accepting: Any = [Accepting(each, config.ssl, make, self._pace) for each in sockets or ()]
        self.servers = accepting
        self.started = True


async def _first_ended(tasks: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()


def _with_protocols(api: Any, open_to_all: Any, acme_app: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        is_open = path.startswith(("/.well-known/pki/", answering.PREFIX))
        chosen = acme_app if acme.serves(path) else open_to_all if is_open else api
        await chosen(scope, receive, send)

    return app


def _open_to_all(pki: Any, answers: Any) -> Any:
    """What knows no caller: it is served in plain HTTP too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        is_challenge = scope["type"] == "http" and scope.get("path", "").startswith(answering.PREFIX)
        await (answers if is_challenge else pki)(scope, receive, send)

    return app


def _on_signals(stop: asyncio.Event, tls: uvicorn.Config, cert_path: Path, key_path: Path) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload_tls, tls, cert_path, key_path)


def _reload_tls(tls: uvicorn.Config, cert_path: Path, key_path: Path) -> None:
    """New handshakes get the new pair; open connections go on. A pair that does not load leaves the old one in
    place.
    """
    if tls.ssl is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert_path, key_path)
        tls.ssl.load_cert_chain(cert_path, key_path)
    except (OSError, ssl.SSLError) as error:
        log.error("tls_not_reloaded", error=str(error))  # noqa: TRY400 - the old pair stays; a trace helps nobody
        return
    log.info("tls_reloaded", path=str(cert_path))


async def _tls_files(house: House) -> tuple[Path, Path]:
    settings = house.settings
    if settings.tls_cert_path and settings.tls_key_path:
        for path in (settings.tls_cert_path, settings.tls_key_path):
            if not path.is_file():
                raise Misconfigured(f"the server's TLS file {path} is not there")
        return settings.tls_cert_path, settings.tls_key_path
    if settings.tls_cert_path or settings.tls_key_path:
        raise Misconfigured("set both CERTCTL_SERVER_TLS_CERT_PATH and CERTCTL_SERVER_TLS_KEY_PATH, or neither")
    await own_tls.ensure(house.ctx, settings.data_dir, settings.public_names, BUILT_IN_ISSUER)
    own = own_tls.paths(settings.data_dir)
    return own.cert_path, own.key_path


async def _keep_clock(house: House) -> None:
    """Read the database's clock again and again: the two drift apart, and a failover may bring another."""
    clock = house.ctx.clock
    while isinstance(clock, DatabaseClock):
        await asyncio.sleep(_CLOCK_EVERY_SECONDS)
        with contextlib.suppress(CertctlError):
            await clock.read(house.database)


async def _keep_own_tls(house: House, tls: uvicorn.Config, stop: asyncio.Event) -> None:
    settings = house.settings
    if settings.tls_cert_path and settings.tls_key_path:
        await _keep_given_tls(settings, settings.tls_cert_path, settings.tls_key_path, tls, stop)
        return
    own, loaded = own_tls.paths(settings.data_dir), ""
    while not stop.is_set():
        try:
            present = await own_tls.ensure(house.ctx, settings.data_dir, settings.public_names, BUILT_IN_ISSUER)
            if loaded and present != loaded:
                _reload_tls(tls, own.cert_path, own.key_path)
            loaded = present
        except CertctlError as error:
            log.warning("own_tls_not_renewed", error=error.message)
        await asyncio.sleep(_OWN_TLS_EVERY_SECONDS)


async def _keep_given_tls(
    settings: Settings, cert_path: Path, key_path: Path, tls: uvicorn.Config, stop: asyncio.Event
) -> None:
    """Whoever renews a mounted pair (cert-manager, a kubelet) sends no signal: look at the files now and then."""

    def present() -> tuple[bytes, bytes] | None:
        try:
            return cert_path.read_bytes(), key_path.read_bytes()
        except OSError as error:
            log.warning("tls_files_cannot_be_read", error=str(error))
            return None

    loaded = present()
    while not stop.is_set():
        await asyncio.sleep(settings.tls_reload_interval.total_seconds())
        if (now := present()) is not None and now != loaded:
            _reload_tls(tls, cert_path, key_path)
            loaded = now


@contextlib.contextmanager
def listen(host: str, port: int, variable: str) -> Iterator[socket.socket]:
    """A listening socket of this process's own; Misconfigured names the variable when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _CHILD in os.environ:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another port with {variable}"
            ) from error
        listener.listen(1024)
        listener.setblocking(False)
        yield listener


def _announce(settings: Settings, tls_socket: socket.socket, pki_socket: socket.socket) -> None:
    log.info(
        "ready",
        version=__version__,
        url=f"https://{settings.public_names[0]}:{tls_socket.getsockname()[1]}",
        pki=f"http://{settings.pki_http_host}:{pki_socket.getsockname()[1]}",
        database="sqlite" if settings.embedded else "postgresql",
        pid=os.getpid(),
    )


def _supervise(count: int) -> int:
    """Keep `count` children running until told to stop."""
    stopping = False
    children: dict[int, subprocess.Popen[bytes]] = {}

    def start(index: int) -> None:
        command = [sys.executable, "-m", "certctl.cli.server"]
        children[index] = subprocess.Popen(command, env=os.environ | {_CHILD: str(index)})

    def forward(number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = stopping or number != signal.SIGHUP
        for child in children.values():
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    for index in range(count):
        start(index)
    while not stopping:
        time.sleep(_RESTART_SECONDS)
        for index, child in list(children.items()):
            code = child.poll()
            if code in {4, 5}:
                forward(signal.SIGTERM, None)
                return code
            if code is not None and not stopping:
                log.warning("process_died", index=index, code=code)
                start(index)
    return max((child.wait() for child in children.values()), default=0)
