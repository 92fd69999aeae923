"""Push of the audit log over real sockets: in order, from a cursor, and nothing is lost while a receiver is down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from certctl.client.pushed import verify_pushed
from certctl.client.sealed import NotIntact
from certctl.connectors.http import tls_context
from certctl.connectors.receivers.http import Http
from certctl.connectors.receivers.syslog import Syslog
from certctl.control import audit, audit_push
from certctl.core.errors import ConnectorError
from certctl.core.secret import Secret
from certctl.ledger import follow
from certctl.pki.checkpoint import verifier_key
from certctl.wire.syslog import read_frames, read_message
from integration.api_house import hours, open_api
from peers.responders import challenge_certificate
from peers.rsyslog import rsyslog

TOKEN = "a-token-of-the-receiver"


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


class Heard:
    """What a receiver has; `mood` says how it is: well, breaks (reads and resets), refuses (503 behind the read)."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.messages: list[str] = []
        self.heads: list[bytes] = []
        self.mood = "well"
        self.port = 0

    def take(self, lines: list[str]) -> None:
        self.messages += lines
        self.ids += [json.loads(line)["id"] for line in lines]


@contextlib.asynccontextmanager
async def syslog_receiver(heard: Heard, context: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if heard.mood == "breaks":
            await reader.read(1)
            # as the kernel does for a process that is killed with unread data: a reset
            gone = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, gone)
            writer.transport.abort()
            return
        frames, rest = read_frames(await reader.read(-1))
        assert rest == b""
        messages = [read_message(each) for each in frames]
        assert {(each.facility, each.hostname, each.app_name) for each in messages} <= {(13, "ca.example", "certctl")}
        assert all(json.loads(each.text)["action"][:32] == each.message_id for each in messages)
        heard.take([each.text for each in messages])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", heard.port, ssl=context, limit=1 << 24)
    heard.port = server.sockets[0].getsockname()[1]
    async with server:
        yield


@contextlib.asynccontextmanager
async def http_receiver(heard: Heard) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        heard.heads.append(head)
        if heard.mood == "breaks":
            writer.transport.abort()
            return
        heard.take(body.decode().splitlines())
        status = b"503 Busy" if heard.mood == "refuses" else b"202 Accepted"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", heard.port, limit=1 << 24)
    heard.port = server.sockets[0].getsockname()[1]
    async with server:
        yield


async def log_of(api) -> list[str]:
    """Every event, in the order of the log."""
    async with api.house.database.read() as tx:
        return [row.id for row in await follow(tx, api.house.ctx.scope, (0, 0), 10_000)]


async def some(api, number: int) -> None:
    for _ in range(number):
        api.said = getattr(api, "said", 0) + 1
        await api.made("/api/v1/teams", {"name": f"team {api.said}"})


async def standing(api, receiver):
    (found,) = await audit_push.standings(api.house.ctx, [receiver])
    return found


async def test_syslog_down_for_a_day_loses_nothing(api):
    heard, ctx = Heard(), api.house.ctx
    async with syslog_receiver(heard):
        receiver = Syslog("127.0.0.1", heard.port, "ca.example")
        await some(api, 2)
        assert await audit_push.push_all(ctx, [receiver]) == len(heard.ids) > 2
        assert heard.ids == await log_of(api)
    before = len(heard.ids)
    await some(api, 2)
    for _ in range(30):
        assert await audit_push.push_all(ctx, [receiver]) == 0
        api.clock.moment += hours(0.8)
    down = await standing(api, receiver)
    assert (down.cursor.failures, down.behind) == (30, 2)
    assert down.cursor.error
    assert len(heard.ids) == before
    async with syslog_receiver(heard):
        assert await audit_push.push_all(ctx, [receiver]) == 2
    assert heard.ids == await log_of(api), "each once, in order"
    well = await standing(api, receiver)
    assert (well.cursor.failures, well.cursor.error, well.behind, well.cursor.sent) == (0, "", 0, len(heard.ids))


async def test_who_is_down_is_not_asked_all_the_time(api):
    asked = []

    class Down:
        name, address = "down", "nowhere"

        async def send(self, lines) -> None:
            asked.append(api.clock.moment)
            raise ConnectorError("it is down")

    for _ in range(200):
        await audit_push.push_all(api.house.ctx, [Down()])
        api.clock.moment += hours(10 / 3600)
    assert 5 < len(asked) < 20
    assert (await standing(api, Down())).cursor.failures == len(asked)


async def test_what_was_not_confirmed_is_sent_again(api):
    heard, ctx = Heard(), api.house.ctx
    async with syslog_receiver(heard):
        receiver = Syslog("127.0.0.1", heard.port, "ca.example")
        heard.mood = "breaks"
        assert await audit_push.push_all(ctx, [receiver]) == 0
        heard.mood = "well"
        api.clock.moment += hours(1)
        await audit_push.push_all(ctx, [receiver])
    assert heard.ids == await log_of(api)


async def test_over_tls_a_receiver_of_another_name_or_ca_hears_nothing(api, tmp_path):
    heard, ctx = Heard(), api.house.ctx
    pem = challenge_certificate([x509.DNSName("localhost")], b"", with_extension=False)
    (tmp_path / "both.pem").write_bytes(pem)
    door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    door.load_cert_chain(tmp_path / "both.pem")
    async with syslog_receiver(heard, door):
        for host, context in (("localhost", tls_context()), ("127.0.0.1", tls_context(tmp_path / "both.pem"))):
            receiver = Syslog(host, heard.port, "ca.example", context)
            assert await audit_push.push_all(ctx, [receiver]) == 0
            assert "is not trusted" in (await standing(api, receiver)).cursor.error
            api.clock.moment += hours(1)
        assert heard.ids == []
        receiver = Syslog("localhost", heard.port, "ca.example", tls_context(tmp_path / "both.pem"))
        await audit_push.push_all(ctx, [receiver])
    assert heard.ids == await log_of(api)


async def test_http_in_batches_with_a_token_that_nothing_shows(api, monkeypatch, caplog, capsys):
    monkeypatch.setattr(audit_push, "BATCH", 3)
    heard, ctx = Heard(), api.house.ctx
    async with http_receiver(heard):
        receiver = Http(f"http://127.0.0.1:{heard.port}/in/path-that-is-secret", Secret(TOKEN))
        await some(api, 4)
        for heard.mood in ("breaks", "refuses"):
            assert await audit_push.push_all(ctx, [receiver]) == 0
            api.clock.moment += hours(1)
        twice, heard.mood = len(heard.ids), "well"
        assert twice == 3
        await audit_push.push_all(ctx, [receiver])
    assert heard.ids[twice:] == await log_of(api)
    assert heard.ids[:twice] == heard.ids[twice : 2 * twice], "an answer that was lost is asked for again"
    assert all(b"uthorization: Bearer " + TOKEN.encode() in head for head in heard.heads)
    keys = [line for head in heard.heads for line in head.split(b"\r\n") if line.lower().startswith(b"idempotency-key")]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    told = repr(await standing(api, receiver)) + caplog.text + "".join(capsys.readouterr())
    assert TOKEN not in told
    assert "path-that-is-secret" not in told


async def test_heads_come_behind_what_they_cover_and_the_file_proves_itself(api, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(audit_push, "BATCH", 4)
    heard, ctx = Heard(), api.house.ctx
    async with syslog_receiver(heard):
        receiver = Syslog("127.0.0.1", heard.port, "ca.example")
        await some(api, 2)
        await audit_push.push_all(ctx, [receiver])
        assert await audit_push.push(ctx, receiver) == 0, "nothing is sealed, so there is no head"
        await audit.seal_all(ctx)
        heard.mood = "breaks"
        await audit_push.push_all(ctx, [receiver])
        assert (await standing(api, receiver)).cursor.head_size == 0
        heard.mood = "well"
        for _ in range(3):
            await some(api, 2)
            await audit.seal_all(ctx)
        await some(api, 1)
        api.clock.moment += hours(1)
        await audit_push.push_all(ctx, [receiver])
        assert await audit_push.push_all(ctx, [receiver]) == 0, "a head is told once"
    log = await log_of(api)
    assert [each for each in heard.ids if not each.startswith("head-")] == log
    key = (await audit.read(ctx)).verifier_key
    lines = [message.encode() + b"\n" for message in heard.messages]
    found = verify_pushed(lines, key)
    assert (found.head.size, found.behind) == (len(log) - 1, 1)
    assert found.heads >= 2
    assert verify_pushed([*lines[:6], *lines], key) == found, "what came twice is known by its id"
    (tmp_path / "siem.log").write_bytes(
        b"".join(b"<110>1 2026-11-26T12:00:00Z h certctl - a - " + each for each in lines)
    )
    told = cli("audit", "verify", str(tmp_path / "siem.log"), "--key", key)
    assert f"intact: the first {found.head.size} events" in told.stdout, told.output
    assert cli("audit", "verify", str(tmp_path / "siem.log")).exit_code != 0, "no key, nothing to believe"
    first = next(at for at, each in enumerate(heard.ids) if each.startswith("head-"))
    for lie, said in lies(lines, first):
        with pytest.raises(NotIntact, match=said):
            verify_pushed(lie, key)
    with pytest.raises(NotIntact, match="none of this log"):
        verify_pushed(lines, (await another_key()))


def lies(lines: list[bytes], first: int):
    """What may be done to a receiver's file, and what is said of it. `first` is where the first head stands."""
    later = next(at for at in range(first + 1, len(lines)) if b'"audit_head"' in lines[at])
    yield lines[1:], "from the log's first event on"
    yield lines[: first + 1] + lines[first + 2 :], "1 events are missing between the heads"
    yield [lines[1], lines[0], *lines[2:]], "are not what the signed head tells of"
    changed = lines[2].replace(b'"actor":"', b'"actor":"not-')
    yield [*lines[:2], changed, *lines[3:]], "are not what the signed head tells of"
    yield [*lines[:first], changed, *lines[first:]], "said something else"
    yield [line for line in lines if b'"audit_head"' not in line], "no signed head"
    yield [line for at, line in enumerate(lines) if at != first - 1], "never came"
    forged = lines[later].replace(b'"checkpoint":"certctl', b'"checkpoint":"Certctl')
    yield [*lines[:later], forged, *lines[later + 1 :]], "none of this log"
    yield [lines[0].replace(b"{", b'{"id":"x",', 1), *lines[1:]], "not as the server wrote it"
    yield [b"nonsense\n"], "no entry"


async def test_rsyslog_stopped_and_started_has_each_entry_once_in_order(api, tmp_path):
    ctx, peer = api.house.ctx, rsyslog(tmp_path / "rsyslog")
    receiver = Syslog("127.0.0.1", peer.port, "ca.example")
    try:
        await asyncio.to_thread(peer.start)
        await some(api, 3)
        await audit.seal_all(ctx)
        assert await audit_push.push_all(ctx, [receiver]) > 4
        await asyncio.to_thread(peer.stop)
        await api.made("/api/v1/teams", {"name": 'Zo\u00eb \\ "quoted" % #012'})
        assert await audit_push.push_all(ctx, [receiver]) == 0
        await audit.seal_all(ctx)
        api.clock.moment += hours(1)
        await asyncio.to_thread(peer.start)
        assert await audit_push.push_all(ctx, [receiver]) == 2
    finally:
        await asyncio.to_thread(peer.stop)
    lines = peer.file.read_bytes().splitlines(keepends=True)
    ids = [json.loads(line)["id"] for line in lines]
    assert [each for each in ids if not each.startswith("head-")] == await log_of(api)
    found = verify_pushed(lines, (await audit.read(ctx)).verifier_key)
    assert (found.head.size, found.heads, found.behind) == (len(await log_of(api)), 2, 0)


async def another_key() -> str:
    return verifier_key("certctl/audit/other", Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def cli(*words: str):
    from certctl.cli.main import app

    return CliRunner().invoke(app, list(words))


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b'{"id":"a"}', b'{"id":', b'{"seal":{}}', b"\xff{", b"[" * 5000])
    )
)
def test_no_bytes_make_the_verifier_of_a_receivers_file_fall(lines):
    with pytest.raises(NotIntact):
        verify_pushed(lines, verifier_key("x", b"0" * 32))


async def test_how_the_push_stands_is_told_to_those_who_may_read_all(api):
    heard = Heard()
    async with syslog_receiver(heard):
        receiver = Syslog("127.0.0.1", heard.port, "ca.example")
        object.__setattr__(api.state, "audit_receivers", (receiver,))
        await audit_push.push_all(api.house.ctx, [receiver])
        await some(api, 1)
        (told,) = (await api.get("/api/v1/audit/push"))["receivers"]
        page = (await api.call("GET", "/api/v1/metrics/prometheus")).text
        assert 'certctl_audit_push_waiting_events{receiver="syslog"} 1' in page
        api.clock.moment += hours(1)
        await some(api, 1)
        page = (await api.call("GET", "/api/v1/metrics/prometheus")).text
        assert 'certctl_audit_push_behind_seconds{receiver="syslog"} 3600' in page
    assert (told["name"], told["address"], told["behind"]) == ("syslog", f"tcp://127.0.0.1:{heard.port}", 1)
    assert told["sent"] == len(heard.ids)
    await api.made("/api/v1/teams", {"id": "red", "name": "red"})
    assert (await api.call("GET", "/api/v1/audit/push", key=await api.key("r-admin", teams=["red"]))).status_code == 403
