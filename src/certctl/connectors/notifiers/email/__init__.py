"""E-mail by SMTP (RFC 5321): STARTTLS (RFC 3207) or TLS from the first byte (RFC 8314), AUTH (RFC 4954) under TLS only.

The protocol is the standard library's, the socket is `dial`'s. What a name or message holds never becomes a header of
its own (RFC 5322): lines are folded into one first. Messages that are sent twice have one Message-ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl as tls
from collections.abc import Iterator
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Literal

import msgspec
from msgspec import Struct

from certctl.connectors.base.config import no_secret
from certctl.connectors.base.notifier import Message, one_line
from certctl.connectors.dial import DialPolicy, Resolver, connect, show_endpoint
from certctl.connectors.http import own_roots, tls_context
from certctl.core.errors import Malformed, Misconfigured, Rejected, Temporary
from certctl.core.names import NameKind, parse_name
from certctl.core.secret import Secret

_SECONDS = 15.0  # for one command and its answer
_WHOLE = 25.0  # for a whole delivery: less than a lease
_POLICY = SMTP.clone(cte_type="7bit")


class EmailConfig(Struct, frozen=True, kw_only=True):
    """Configuration of a mail channel: the owner of a certificate is written to, if it has an address, and `recipients`
    always. `ca_pem` holds the roots that are trusted in place of the system's.
    """

    host: str
    from_address: str
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = ""
    password: Secret = msgspec.field(default_factory=no_secret)
    recipients: tuple[str, ...] = ()
    to_owner: bool = True
    ca_pem: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work, and every text that could begin a line of its own."""
        if not self.host or not self.host.isascii() or not self.host.isprintable() or " " in self.host:
            raise ValueError("host is no host name or address")
        if not 1 <= self.port <= 65535:
            raise ValueError("port is a number from 1 to 65535")
        for address in (self.from_address, *self.recipients):
            _check(address)
        if bool(self.username) != bool(self.password):
            raise ValueError("username and password are given together")
        if self.username and self.tls == "none":
            raise ValueError("a password is sent under TLS alone: tls must be starttls or implicit")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return show_endpoint(self.host, self.port)


def _check(address: str) -> None:
    try:
        good = parse_name(address, "address").kind is NameKind.EMAIL and address == address.strip()
    except Malformed:
        good = False
    if not good:
        raise ValueError(f"{one_line(address, 80)!r} is no e-mail address")


class EmailNotifier:
    """One account on one server."""

    def __init__(
        self,
        config: EmailConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._policy = policy
        self._context = context or own_roots(config.ca_pem)
        self._resolver = resolver

    def to(self, owner: str) -> tuple[str, ...]:
        """The owner, if owners are written to, and the recipients of the configuration."""
        owners = (owner,) if owner and self._config.to_owner else ()
        return tuple(dict.fromkeys((*owners, *self._config.recipients)))

    async def send(self, message: Message) -> str:
        """Deliver to every recipient at once; a remark names those that the server refused while it took others."""
        recipients = message.recipients or self.to("")
        if not recipients:
            raise Misconfigured("nobody to write to: the channel names no recipients and there is no owner's address")
        for address in recipients:
            try:
                _check(address)
            except ValueError as error:
                raise Rejected(str(error)) from error
        letter = self._letter(message, recipients).as_bytes(policy=_POLICY)
        where = show_endpoint(self._config.host, self._config.port)
        connected = await connect(
            self._config.host, self._config.port, self._policy, timedelta(seconds=_SECONDS), resolver=self._resolver
        )
        try:
            async with asyncio.timeout(_WHOLE):
                refused = await asyncio.to_thread(self._deliver, connected, letter, recipients, where)
        except TimeoutError as error:
            raise Temporary(f"{where} did not take the message within {_WHOLE:g} s") from error
        finally:
            with contextlib.suppress(OSError):  # a thread that still waits on it wakes up
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()
        return f"refused by {where}: {', '.join(refused)}" if refused else ""

    async def close(self) -> None:
        """Nothing is kept open."""

    def _letter(self, message: Message, recipients: tuple[str, ...]) -> EmailMessage:
        letter = EmailMessage(policy=_POLICY)
        letter["From"] = Address("certctl", addr_spec=self._config.from_address)
        letter["To"] = [Address(addr_spec=address) for address in recipients]
        letter["Subject"] = one_line(message.subject, 200)
        letter["Date"] = message.created_at
        domain = self._config.from_address.rpartition("@")[2]
        letter["Message-ID"] = f"<{message.id}@{domain}>"
        letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
        letter["X-Certctl-Notification-Id"] = message.id
        letter.set_content(message.text)
        if message.html:
            letter.add_alternative(message.html, subtype="html")
        return letter

    def _deliver(self, connected: socket.socket, letter: bytes, to: tuple[str, ...], where: str) -> tuple[str, ...]:
        """In a thread of its own."""
        config = self._config
        connected.settimeout(_SECONDS)
        with _told(where):
            context = (self._context or tls_context()) if config.tls != "none" else None
            session = _Session(connected, config.host, context if config.tls == "implicit" else None)
            try:
                session.connect(config.host, config.port)
                if config.tls == "starttls":
                    session.starttls(context=context)
                if config.username:
                    session.login(config.username, config.password.reveal())
                refused = session.sendmail(config.from_address, to, letter)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    session.quit()
            finally:
                session.close()
        return tuple(refused)


class _Session(smtplib.SMTP):
    """The standard library's client over a socket that was judged and connected before."""

    def __init__(self, connected: socket.socket, host: str, context: tls.SSLContext | None) -> None:
        super().__init__(local_hostname="localhost", timeout=_SECONDS)
        self._connected = connected
        self._host = host  # the name that STARTTLS verifies
        self._tls_at_once = context

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> socket.socket:
        if self._tls_at_once is None:
            return self._connected
        return self._tls_at_once.wrap_socket(self._connected, server_hostname=self._host)


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """The error that fits what the server said. Its words are not repeated: they may repeat ours."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        if 400 <= error.smtp_code < 500:
            raise Temporary(f"{where} cannot check the password now ({error.smtp_code})") from None
        raise Misconfigured(f"{where} does not accept user name and password ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        message = f"{where} takes no recipient ({', '.join(map(str, sorted(codes)))})"
        raise Temporary(message) if any(code < 500 for code in codes) else Rejected(message) from None
    except smtplib.SMTPNotSupportedError as error:
        raise Misconfigured(f"{where} offers no STARTTLS, or no AUTH that is known here") from error
    except smtplib.SMTPResponseException as error:
        message = f"{where} answered {error.smtp_code}"
        raise Temporary(message) if error.smtp_code < 500 else Rejected(message) from None
    except smtplib.SMTPException as error:
        raise Temporary(f"{where} broke off: {type(error).__name__}") from None
    except tls.SSLCertVerificationError as error:
        raise Misconfigured(f"the certificate of {where} is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        raise Temporary(f"{where} did not answer within {_SECONDS:g} s") from error
    except OSError as error:
        raise Temporary(f"{where} broke off: {error.strerror or type(error).__name__}") from error
