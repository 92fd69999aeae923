"""/health-checks: endpoints that are looked at, what they serve and what is expected there, how that went over time;
made, changed, acknowledged and taken away by forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.client.models.health import HealthCheckWrite
from certctl.control import health_checks
from certctl.core.errors import CallerError
from certctl.core.health import FaultKind, HealthCheck, HealthEntry, HealthStatus, Protocol
from certctl.core.scope import Scope
from certctl.core.target import TargetRecord
from certctl.store import catalogue, truths
from certctl.store.health_listings import HEALTH_CHECKS
from certctl.store.lists import Asked, read_list
from certctl.store.tx import Tx
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.axis import Axis, Tick, date_ticks
from certctl.web.configure import pages as configure
from certctl.web.configure.fields import Label
from certctl.web.configure.kinds import Kind, Option, without_sees
from certctl.web.configure.words_of import Words
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import ngettext, number, span

PATH = "/health-checks"
_AT = f"{PATH}/{{health_check_id:str}}"
_RUNS = 100
_SHOWN_RUNS = 25
_OF_ONE = 20
# a strip of less than this would magnify seconds
_SHORTEST = timedelta(hours=1)
_AILING = frozenset({HealthStatus.DEGRADED, HealthStatus.DOWN, HealthStatus.CERT_MISMATCH})


class Piece(Struct, frozen=True, kw_only=True):
    """A run of equal looks on the strip."""

    x: str
    width: str
    kind: str
    spoken: str


class Strip(Struct, frozen=True, kw_only=True):
    """What the last looks found, over time."""

    pieces: list[Piece]
    ticks: list[Tick]
    spoken: str


def mark_of(check: HealthCheck) -> Mark:
    """How an endpoint stands."""
    if not check.enabled:
        return Mark("unk", "s-none", _("Switched off"))
    return _standing(check.status)


def _standing(status: str) -> Mark:
    s = HealthStatus
    return {
        s.HEALTHY: Mark("ok", "s-ok", _("Healthy")),
        s.DEGRADED: Mark("warn", "s-warn", _("Degraded")),
        s.DOWN: Mark("bad", "s-bad", _("Down")),
        s.CERT_MISMATCH: Mark("bad", "s-bad", _("Serves another")),
        s.UNKNOWN: Mark("unk", "s-unknown", _("Not seen")),
    }[HealthStatus(status)]


def fault_of(kind: str) -> str:
    """What a look found to be wrong, in words; empty for nothing."""
    k = FaultKind
    told: dict[str, str] = {
        k.REFUSED: _("certctl may not look there"),
        k.LOOK_FAILED: _("certctl's own look broke down"),
        k.UNREACHABLE: _("no connection"),
        k.TIMED_OUT: _("no answer in time"),
        k.NO_TLS: _("it speaks no TLS"),
        k.UNREADABLE: _("what it serves is no certificate"),
        k.WRONG_CERTIFICATE: _("another certificate than expected"),
        k.EXPIRED: _("the certificate has expired"),
        k.NOT_YET_VALID: _("the certificate is not valid yet"),
        k.WRONG_NAME: _("the certificate is for other names"),
        k.UNTRUSTED_CHAIN: _("its chain is not trusted"),
    }
    return told.get(kind, kind.replace("_", " "))


def threshold_of(check: HealthCheck) -> str:
    """How many bad looks in a row there were, and how many it takes."""
    if not check.consecutive_failures:
        return ""
    told = ngettext(
        "{number} bad look in a row; degraded after {degraded}, down after {down}",
        "{number} bad looks in a row; degraded after {degraded}, down after {down}",
        check.consecutive_failures,
    )
    return told.format(
        number=number(check.consecutive_failures), degraded=check.degraded_threshold, down=check.down_threshold
    )


def _words() -> Words:
    return Words(
        many=_("Health checks"),
        new=_("New health check"),
        lead=_("Endpoints that are looked at every few minutes: what they serve, held against what is expected."),
        empty="",
        heads=(),
        row=lambda _check, _names: (),
        mark=mark_of,
        removal=_("Its history goes with it. One that follows a deployment comes back with the next one."),
    )


def _labels() -> Mapping[str, Label]:
    return {
        "endpoint": (_("Endpoint"), _("Host and port that is looked at, such as shop.example:443")),
        "server_name": (_("Ask for"), _("Server name in the handshake; empty: the endpoint's host")),
        "protocol": (_("Protocol"), _("TLS at once, or STARTTLS in one of these")),
        "ca_pem": (_("Trusted roots"), _("PEM; in place of our own, the system's, and the issuer's")),
        "certificate_id": (_("Certificate"), _("Its id: whatever is current of it is expected, renewals too")),
        "expected_fingerprint": (_("Expected fingerprint"), _("SHA-256, for just that one; empty: any right one")),
        "degraded_threshold": (_("Degraded after"), _("Bad looks in a row")),
        "down_threshold": (_("Down after"), _("Bad looks in a row")),
        "check_interval_seconds": (_("Looked at every"), _("Seconds, 10 to 86400")),
        "enabled": (_("In use"), _("Off keeps it, and nobody looks or is told")),
    }


def _protocols() -> Mapping[str, Sequence[Option]]:
    told = {Protocol.TLS: "TLS", Protocol.SMTP: "SMTP", Protocol.IMAP: "IMAP", Protocol.POP3: "POP3"}
    return {"protocol": [(str(each), text) for each, text in told.items()]}


def _settled(check: HealthCheck) -> frozenset[str]:
    return health_checks.FOLLOWED if check.follows is not None else frozenset()


KIND = Kind(
    path=PATH,
    record=HealthCheck,
    body=HealthCheckWrite,
    listing=HEALTH_CHECKS,
    read="healthcheck.read",
    edit="healthcheck.edit",
    delete="healthcheck.delete",
    create=health_checks.create,
    update=health_checks.update,
    remove=without_sees(health_checks.delete),
    words=_words,
    labels=_labels,
    named=lambda check: check.endpoint,
    settled=_settled,
    apart=True,
    front=frozenset({"endpoint", "certificate_id", "expected_fingerprint", "check_interval_seconds", "enabled"}),
    given=frozenset({"endpoint", "certificate_id"}),
    choices=_protocols,
    starts={
        "enabled": True,
        "protocol": str(Protocol.TLS),
        "degraded_threshold": 2,
        "down_threshold": 5,
        "check_interval_seconds": 300,
    },
    needed=frozenset({"endpoint"}),
)


@get(PATH, opt=needs(KIND.read))
async def show_all(request: WebRequest) -> Response[str]:
    """By endpoint; tabs lead to what is wrong, chips say of what they are."""
    scope = request.visible
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, HEALTH_CHECKS, scope)
        counts = await health_checks.counts(tx, scope)
        certificates = await _named(tx, request, table.rows)
        of = await _chips(tx, request, table)
    s = HealthStatus
    tabs = [
        (_("All"), "", counts.total),
        (_("Down"), s.DOWN, counts.down),
        (_("Serve another"), s.CERT_MISMATCH, counts.cert_mismatch),
        (_("Degraded"), s.DEGRADED, counts.degraded),
        (_("Healthy"), s.HEALTHY, counts.healthy),
        (_("Not seen"), s.UNKNOWN, counts.unknown),
    ]
    return await render(
        request,
        "health-checks.html",
        table=table,
        words=_words(),
        tabs=[
            (text, table.to(status=str(value)), table.chosen("status") == str(value), number(count))
            for text, value, count in tabs
        ],
        chips=of,
        marks={row.id: mark_of(row) for row in table.rows},
        faults={row.id: fault_of(row.failure_kind) for row in table.rows if row.failure_kind},
        certificates=certificates,
    )


async def _named(tx: Tx, request: WebRequest, rows: Sequence[HealthCheck]) -> dict[str, str]:
    ids = [row.certificate_id for row in rows if row.certificate_id]
    return await truths.named_certificates(tx, request.seen_by("cert.read"), ids)


async def _chips(tx: Tx, request: WebRequest, table: tables.Table[HealthCheck]) -> list[tuple[str, str, str]]:
    """What the list is narrowed to: word, name, the address without it."""
    found = []
    if certificate := table.chosen("certificate_id"):
        names = await truths.named_certificates(tx, request.seen_by("cert.read"), [certificate])
        found.append((_("Certificate"), names.get(certificate, certificate), table.to(certificate_id="")))
    if target := table.chosen("target_id"):
        names = await truths.named(tx, request.seen_by("target.read"), TargetRecord, [target])
        found.append((_("Target"), names.get(target, target), table.to(target_id="")))
    return found


@get(_AT, opt=needs(KIND.read))
async def show(request: WebRequest, health_check_id: FromPath[str]) -> Response[str]:
    """One endpoint: what it serves beside what is expected, and its looks over time."""
    return await _page(request, health_check_id)


async def _page(request: WebRequest, health_check_id: str, fault: str = "") -> Response[str]:
    scope = request.seen_by(KIND.read)
    async with request.ctx.database.read() as tx:
        check = await catalogue.get(tx, scope, HealthCheck, health_check_id)
        runs = await health_checks.history(tx, scope, health_check_id, _RUNS)
        certificates = await _named(tx, request, [check])
        followed = [check.follows] if check.follows else []
        targets = await truths.named(tx, request.seen_by("target.read"), TargetRecord, followed)
    return await render(
        request,
        "health-check.html",
        status=409 if fault else 200,
        check=check,
        mark=mark_of(check),
        fault=fault,
        wrong=fault_of(check.failure_kind),
        threshold=threshold_of(check),
        every=span(timedelta(seconds=check.check_interval_seconds)),
        certificate=certificates.get(check.certificate_id, check.certificate_id),
        target=targets.get(check.follows or "", check.follows or ""),
        strip=strip(runs, request.ctx.now()),
        runs=[(run, _standing(run.status), fault_of(run.failure_kind)) for run in runs[:_SHOWN_RUNS]],
        trusted_by=_trusted_by(check.trusted_by),
        may_acknowledge=check.status in _AILING and not check.acknowledged and request.may("healthcheck.acknowledge"),
    )


def _trusted_by(word: str) -> str:
    return {
        "given": _("the roots given with the check"),
        "certctl": _("our own CAs"),
        "system": _("the roots of this server's system"),
        "issuer": _("the CA that issued it, as it said itself"),
    }.get(word, word)


def strip(runs: Sequence[HealthEntry], now: datetime) -> Strip | None:
    """Runs (newest first) as pieces of one line that ends now; each lasts until the next begins. None for no look."""
    if not runs:
        return None
    begin = min(runs[-1].checked_at, now - _SHORTEST)
    axis = Axis(begin=begin, end=max(now, begin + _SHORTEST), now=now)
    pieces = []
    until = now
    for run in runs:
        mark = _standing(run.status)
        spoken = _("{state} for {span}").format(state=mark.word, span=span(until - run.checked_at))
        width = axis.width(run.checked_at, until)
        pieces.append(Piece(x=axis.x(run.checked_at), width=width, kind=mark.kind, spoken=spoken))
        until = run.checked_at
    good = sum((_lasted(run, after, now) for run, after in _followed(runs)), timedelta())
    whole = now - runs[-1].checked_at
    share = 100 * good / whole if whole > timedelta() else 100.0 * (runs[0].status == HealthStatus.HEALTHY)
    said = _("Healthy for {share} % of the last {span}").format(share=f"{share:.4g}", span=span(whole))
    return Strip(pieces=pieces[::-1], ticks=date_ticks(axis), spoken=said)


def _followed(runs: Sequence[HealthEntry]) -> list[tuple[HealthEntry, HealthEntry | None]]:
    return list(zip(runs, [None, *runs[:-1]], strict=True))


def _lasted(run: HealthEntry, after: HealthEntry | None, now: datetime) -> timedelta:
    """How long a run was healthy, until the one after it began."""
    until = after.checked_at if after is not None else now
    return until - run.checked_at if run.status == HealthStatus.HEALTHY else timedelta()


@get(f"{_AT}/edit", opt=needs(KIND.edit))
async def edit(request: WebRequest, health_check_id: FromPath[str]) -> Response[str]:
    """The form of one: how it is looked at; where a deployment says the rest, that is not asked."""
    return await configure.edit_page(request, KIND, health_check_id)


@post(f"{_AT}/acknowledge", opt=needs("healthcheck.acknowledge"))
async def acknowledge(request: WebRequest, health_check_id: FromPath[str]) -> Response[str]:
    """Somebody knows of it: so it reads until its state changes."""

    async def doing(_fields: Fields) -> str:
        await health_checks.acknowledge(request.ctx, request.visible, request.actor, health_check_id)
        return going(f"{PATH}/{health_check_id}", "acknowledged")

    try:
        return await act(request, doing)
    except CallerError as error:
        if error.code != "conflict" or not request.may(KIND.read):
            raise
        return await _page(request, health_check_id, error.message[:1].upper() + error.message[1:])


async def of_certificate(tx: Tx, scope: Scope, certificate_id: str) -> list[tuple[HealthCheck, Mark, str]]:
    """The checks of one certificate as its page tells them."""
    by: Any = {"certificate_id": (certificate_id,)}
    found = await read_list(tx, scope, HEALTH_CHECKS, Asked(filters=by, sort="endpoint", limit=_OF_ONE))
    return [(row, mark_of(row), fault_of(row.failure_kind)) for row in found.data]


HANDLERS = (
    show_all,
    *configure.new_pages(KIND),
    show,
    edit,
    configure.save_page(KIND),
    *configure.removal_pages(KIND),
    acknowledge,
)
