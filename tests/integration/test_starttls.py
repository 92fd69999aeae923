"""STARTTLS in the probe: servers that refuse, babble, fall silent or hang up are told apart, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.connectors.dial import DialPolicy
from certctl.connectors.probe import Starttls, probe_tls
from certctl.core.errors import ConnectorError, Rejected, Temporary

POLICY = DialPolicy("test", allow_loopback=True)


@asynccontextmanager
async def scripted(answers: list[bytes], *, hang: bool = False) -> AsyncIterator[int]:
    """A server that says one answer at once and one more whenever it hears something, then hangs up (or does not)."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                writer.write(answer)
                await reader.read(4096)
            if hang:
                await release.wait()
        except OSError:
            pass  # the probe has gone, as it may
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        release.set()
        server.close()
        await server.wait_closed()


async def probe(port: int, starttls: Starttls, seconds: float = 2) -> None:
    await probe_tls("127.0.0.1", port, "a.example", POLICY, timedelta(seconds=seconds), starttls=starttls)


@pytest.mark.parametrize(
    ("starttls", "answers", "told"),
    [
        ("smtp", [b"554 go away\r\n"], "554 go away"),
        ("smtp", [b"220 hi\r\n", b"250-a\r\n250 SIZE 1\r\n"], "does not offer STARTTLS"),
        ("smtp", [b"220 hi\r\n", b"250-a\r\n250 STARTTLS\r\n", b"454 not now\r\n"], "454 not now"),
        ("smtp", [b"220-hi\r\n" * 200], "does not come to an end"),
        ("smtp", [b"x" * 200_000], "no SMTP"),
        ("smtp", [b"220 hi\r\n", b"250 STARTTLS\r\n", b"220 go\r\n", b"no TLS at all\r\n"], "TLS with .* failed"),
        ("imap", [b"* BYE\r\n"], r"\* BYE"),
        ("imap", [b"* PREAUTH hi\r\n"], "PREAUTH"),
        ("imap", [b"* OK hi\r\n", b"* CAPABILITY x\r\na1 BAD no\r\n"], "a1 BAD no"),
        ("imap", [b"* OK hi\r\n", b"* x\r\n" * 200], "does not come to an end"),
        ("pop3", [b"-ERR no\r\n"], "-ERR no"),
        ("pop3", [b"+OK\r\n", b"-ERR none\r\n"], "-ERR none"),
    ],
)
async def test_what_is_no_starttls_is_rejected(starttls: Starttls, answers: list[bytes], told: str) -> None:
    async with scripted(answers, hang=True) as port:
        with pytest.raises((Rejected, Temporary), match=told):
            await probe(port, starttls)


@pytest.mark.parametrize("starttls", ["smtp", "imap", "pop3"])
async def test_silence_and_hanging_up_are_temporary(starttls: Starttls) -> None:
    async with scripted([b""], hang=True) as port:
        with pytest.raises(Temporary, match=r"did not answer within 0\.2 s"):
            await probe(port, starttls, 0.2)
    async with scripted([]) as port:
        with pytest.raises(Temporary, match="broke off"):
            await probe(port, starttls)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(starttls=st.sampled_from(["smtp", "imap", "pop3"]), noise=st.lists(st.binary(max_size=60), max_size=4))
def test_no_noise_brings_anything_but_a_connector_error(starttls: Starttls, noise: list[bytes]) -> None:
    async def story() -> None:
        async with scripted([part + b"\r\n" for part in noise]) as port:
            with pytest.raises(ConnectorError):
                await probe(port, starttls)

    asyncio.run(story())
