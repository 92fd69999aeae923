"""A look at what a TLS server serves, over memory buffers: `SSLContext.wrap_socket` of Python 3.11 leaves its socket open, for the
garbage collector and some later test, when the peer resets the connection between connecting and wrapping.
"""

from __future__ import annotations

import socket
import ssl


def any_certificate() -> ssl.SSLContext:
    """A context that trusts whatever is served: it is the look that matters."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def served_der(address: str, port: int, name: str, context: ssl.SSLContext, seconds: float = 60) -> bytes:
    """The server's certificate (DER) by a whole handshake: that proves certificate and key to be a pair.

    Raises OSError, among it ssl.SSLError; SSLEOFError when the server hangs up in the middle.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with socket.create_connection((address, port), timeout=seconds) as plain:
        while True:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                if received := plain.recv(16384):
                    incoming.write(received)
                else:
                    incoming.write_eof()
            else:
                plain.sendall(outgoing.read())
                return session.getpeercert(binary_form=True) or b""
