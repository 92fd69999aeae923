"""dial, http and probe against real sockets on loopback."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from certctl.connectors.dial import DialPolicy, dial
from certctl.connectors.http import client, fetch, retry_after
from certctl.connectors.probe import probe_tls, split_endpoint
from certctl.core.errors import Misconfigured, Rejected, Temporary
from peers.nginx import fingerprint, make_pair
from peers.ports import free_port
from peers.tls_sites import make, site

INSIDE = DialPolicy("test", (), allow_private=True, allow_loopback=True)
SECOND = timedelta(seconds=1)

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def serving(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each request head with fixed bytes and keeps the connection; notes what it read."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                writer.write(answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await asyncio.sleep(0)


def answering(status: str, headers: str = "", body: bytes = b"hello") -> Answer:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return lambda _: head.encode() + body


def tls_server(folder: Path, name: str = "shop.example") -> tuple[ssl.SSLContext, str, Path]:
    certificate_pem, key_pem = make_pair(name)
    (folder / "c.pem").write_text(certificate_pem)
    (folder / "k.pem").write_bytes(key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return context, certificate_pem, folder / "c.pem"


async def test_dials_exactly_the_judged_address_and_resolves_once() -> None:
    """A name that answers well once and evilly ever after (DNS rebinding) gains nothing."""
    asked = 0

    async def rebinding(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.2"] if asked == 1 else ["127.0.0.1"]

    async with serving(answering("200 OK")) as (port, _):
        policy = DialPolicy("test", ("127.0.0.2",))
        with pytest.raises(Temporary, match=r"127\.0\.0\.2"):  # nothing listens there: it went nowhere else
            await dial("rebind.example", port, policy, SECOND, resolver=rebinding)
        assert asked == 1
        with pytest.raises(Misconfigured, match="loopback"):
            await dial("rebind.example", port, policy, SECOND, resolver=rebinding)


async def test_the_second_address_is_tried() -> None:
    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.3", "127.0.0.1"]

    async with serving(answering("200 OK")) as (port, _):
        _, writer = await dial("two.example", port, INSIDE, SECOND, resolver=two)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()


async def test_a_silent_server_is_given_up_in_time() -> None:
    async with serving(answering("200 OK")) as (port, _):
        context = ssl.create_default_context()
        began = time.monotonic()
        with pytest.raises(Temporary, match=r"did not answer within 0\.2 s"):
            await dial("127.0.0.1", port, INSIDE, timedelta(seconds=0.2), ssl=context)
        assert time.monotonic() - began < 1


async def test_a_slow_resolver_is_given_up_in_time() -> None:
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(10)
        return []

    with pytest.raises(Temporary, match="did not answer within"):
        await dial("slow.example", 443, INSIDE, timedelta(seconds=0.1), resolver=slow)


async def test_dial_verifies_the_certificate(tmp_path: Path) -> None:
    context, _, ca_file = tls_server(tmp_path)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serving(answering("200 OK"), context) as (port, _):
        trusting = ssl.create_default_context(cafile=str(ca_file))
        _, writer = await dial("shop.example", port, INSIDE, SECOND, ssl=trusting, resolver=here)
        writer.close()
        for host, with_context in (("other.example", trusting), ("shop.example", ssl.create_default_context())):
            with pytest.raises(Misconfigured, match="is not trusted"):
                await dial(host, port, INSIDE, SECOND, ssl=with_context, resolver=here)


async def test_http_goes_through_dial(tmp_path: Path) -> None:
    context, _, ca_file = tls_server(tmp_path)

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serving(answering("200 OK"), context) as (port, heads):
        url = f"https://shop.example:{port}/a"
        async with client(INSIDE, ca_file=ca_file, resolver=here) as session:
            for _ in range(3):
                assert (await fetch(session, "GET", url)).text == "hello"
        assert len(heads) == 3
        assert b"identity" in heads[0]
        async with client(DialPolicy("strict", setting="S"), ca_file=ca_file, resolver=here) as session:
            with pytest.raises(Misconfigured, match="loopback"):
                await fetch(session, "GET", url)
        async with client(INSIDE, resolver=here) as session:
            with pytest.raises(Misconfigured, match="is not trusted"):
                await fetch(session, "GET", url)
            with pytest.raises(httpx.ConnectError):  # what a caller without `fetch` sees
                await session.get(url)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        ("429 Slow", "Retry-After: 7\r\n", Temporary, timedelta(seconds=7)),
        ("503 Down", "Retry-After: 99999999999\r\n", Temporary, timedelta(days=1)),
        ("503 Down", "", Temporary, None),
        ("500 Oops", "", Temporary, None),
        ("408 Late", "", Temporary, None),
        ("401 Who", "", Misconfigured, None),
        ("403 No", "", Misconfigured, None),
        ("302 There", "Location: http://169.254.169.254/\r\n", Misconfigured, None),
        ("404 None", "", Rejected, None),
        ("422 Bad", "", Rejected, None),
    ],
)
async def test_answers_become_errors(status: str, headers: str, kind: type[Exception], wait: timedelta | None) -> None:
    async with serving(answering(status, headers, b"s3cret")) as (port, heads), client(INSIDE) as session:
        with pytest.raises(kind) as caught:
            await fetch(session, "POST", f"http://u:pw@127.0.0.1:{port}/x?token=abc", headers={"X-Key": "hush"})
        assert getattr(caught.value, "retry_after", None) == wait
        for secret in ("s3cret", "pw", "abc", "hush"):
            assert secret not in str(caught.value)
        assert len(heads) == 1  # a redirect was not followed
        response = await fetch(session, "GET", f"http://127.0.0.1:{port}/", accept=[int(status[:3])])
        assert response.status_code == int(status[:3])


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(chunked: bool) -> None:
    big = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"
    answer = (lambda _: big) if chunked else answering("200 OK", body=b"x" * 1024)
    async with serving(answer) as (port, _), client(INSIDE, most_body_bytes=1000) as session:
        with pytest.raises(Rejected, match="more than 1000 bytes"):
            await fetch(session, "GET", f"http://127.0.0.1:{port}/")


async def test_a_compressed_body_is_refused() -> None:
    async with serving(answering("200 OK", "Content-Encoding: gzip\r\n")) as (port, _), client(INSIDE) as session:
        with pytest.raises(Rejected, match="compressed"):
            await fetch(session, "GET", f"http://127.0.0.1:{port}/")


async def test_no_answer_is_temporary() -> None:
    async with client(INSIDE, timeout=timedelta(seconds=0.2)) as session:
        with pytest.raises(Temporary):
            await fetch(session, "GET", f"http://127.0.0.1:{free_port()}/")
        async with serving(lambda _: b"") as (port, _):
            with pytest.raises(Temporary, match="did not answer in time"):
                await fetch(session, "GET", f"http://127.0.0.1:{port}/")
            with pytest.raises(Misconfigured, match="http and https"):
                await fetch(session, "GET", f"ftp://127.0.0.1:{port}/")


async def test_a_closed_idle_connection_is_not_used_again() -> None:
    async with serving(answering("200 OK", "Connection: keep-alive\r\n")) as (port, _), client(INSIDE) as session:
        assert (await fetch(session, "GET", f"http://127.0.0.1:{port}/")).is_success
        async with serving(answering("200 OK")) as (other, _):
            assert (await fetch(session, "GET", f"http://127.0.0.1:{other}/")).is_success
        with pytest.raises(Temporary):
            await fetch(session, "GET", f"http://127.0.0.1:{free_port()}/")


def test_an_unreadable_ca_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        client(INSIDE, ca_file=tmp_path / "none.pem")


def test_retry_after_reads_dates() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    response = httpx.Response(503, headers={"Retry-After": "Tue, 01 Jan 2030 00:01:00 GMT"})
    assert retry_after(response, now) == timedelta(minutes=1)
    assert retry_after(httpx.Response(503, headers={"Retry-After": "soon"}), now) is None
    assert retry_after(httpx.Response(503), now) is None


async def test_probe_sees_what_is_served_and_sends_the_very_sni(tmp_path: Path) -> None:
    context, certificate_pem, _ = tls_server(tmp_path)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with serving(answering("200 OK"), context) as (port, _):
        seen = await probe_tls("127.0.0.1", port, "shop.example", INSIDE, SECOND)
        await probe_tls("127.0.0.1", port, "", INSIDE, SECOND)
    assert seen.fingerprint_sha256 == fingerprint(certificate_pem)
    assert ssl.PEM_cert_to_DER_cert(certificate_pem) == seen.leaf_der
    assert seen.chain_der == ()
    assert seen.tls_version == "TLSv1.3"
    assert seen.cipher.startswith("TLS_")
    assert seen.peer_address == "127.0.0.1"
    assert asked == ["shop.example", None]


async def test_probe_gives_the_chain_as_sent(tmp_path: Path) -> None:
    context, certificate_pem, _ = tls_server(tmp_path)
    other, _ = make_pair("Issuing CA")
    (tmp_path / "c.pem").write_text(certificate_pem + other)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    async with serving(answering("200 OK"), context) as (port, _):
        seen = await probe_tls("127.0.0.1", port, "shop.example", INSIDE, SECOND)
    assert seen.chain_der == (ssl.PEM_cert_to_DER_cert(other),)


async def test_probe_of_nothing_and_of_no_tls() -> None:
    with pytest.raises(Temporary, match="cannot connect"):
        await probe_tls("127.0.0.1", free_port(), "", INSIDE, SECOND)

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello, this is no TLS\r\n" * 10)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        with pytest.raises((Rejected, Temporary)):
            await probe_tls("127.0.0.1", server.sockets[0].getsockname()[1], "", INSIDE, SECOND)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a.example:443", ("a.example", 443)), ("[::1]:8443", ("::1", 8443)), ("1.2.3.4:1", ("1.2.3.4", 1))],
)
def test_endpoints_are_taken_apart(text: str, parts: tuple[str, int]) -> None:
    assert split_endpoint(text) == parts


@pytest.mark.parametrize("text", ["", "a", ":443", "a:", "a:0", "a:65536", "a:44x", "::1:443", "[]:443", "a:-1"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(Misconfigured, match="is no endpoint"):
        split_endpoint(text)


async def test_a_dial_that_is_cancelled_at_any_turn_leaves_no_number_taken():
    """Cancelled in its handshake, or in the turn that ended it: the next socket of that number is as good as any."""
    policy = DialPolicy("test", allow_loopback=True)
    leaf = make("shop.example")
    async with site(leaf.context()) as good:

        async def look():
            return await probe_tls("127.0.0.1", good.port, "shop.example", policy, timedelta(seconds=60))

        for turns in range(60):
            looks = [asyncio.create_task(look()) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for each in looks:
                each.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
            seen = await asyncio.gather(*(look() for _ in range(2)))
            assert {each.fingerprint_sha256 for each in seen} == {leaf.fingerprint}
