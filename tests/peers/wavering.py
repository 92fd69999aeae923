"""A name server of the test's own that changes its mind: each question for an address is answered with the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset


class Wavering(asyncio.DatagramProtocol):
    """Every name has these addresses, one after the other, the last one for ever; `asked` are the questions for one."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []
        self.resolver = ""
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = dns.message.from_wire(data)
        question, answer = asked.question[0], dns.message.make_response(asked, recursion_available=True)
        if question.rdtype == dns.rdatatype.A:
            address = self.addresses[min(len(self.asked), len(self.addresses) - 1)]
            self.asked.append(question.name.to_text(omit_final_dot=True))
            answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", address))
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), addr)


@contextlib.asynccontextmanager
async def wavering(*addresses: str) -> AsyncIterator[Wavering]:
    """Run it on a free loopback port of this process for the length of the block."""
    made = Wavering(addresses)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
    made.resolver = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        yield made
    finally:
        transport.close()
