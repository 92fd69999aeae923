"""The server as the agent sees it: the calls of `wire.agent` over one keep-alive HTTPS client (RFC 9112, TLS 1.2 up).

Every answer becomes data or one error: Gone (410), NotAuthenticated (401), NotAllowed (403), Temporary (no answer, 429,
5xx), Rejected (any other 4xx). The server's certificate is always verified. Must never log a header or a body.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec
from msgspec import Struct

from certctl import __version__
from certctl.agent.outbox import Entry
from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import client as open_client
from certctl.connectors.http import retry_after, transport_error
from certctl.core.errors import (
    CertctlError,
    Gone,
    Misconfigured,
    NotAllowed,
    NotAuthenticated,
    Rejected,
    Temporary,
)
from certctl.core.secret import Secret
from certctl.telemetry.points import reach
from certctl.telemetry.tracing import parse_traceparent
from certctl.wire.agent import (
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    Enrolled,
    Enrolment,
    Heartbeat,
    HeartbeatReply,
    Work,
)

CALL_SECONDS = 30.0
POLL_SECONDS = 25
_POLL_MARGIN_SECONDS = 15.0

AnswerT = TypeVar("AnswerT")


class _Version(Struct, kw_only=True):
    server_time: datetime | None = None


class Server:
    """One control plane, spoken to as one agent. Close it with `aclose`."""

    def __init__(self, base_url: str, credential: Secret, ca_file: Path | None, agent_id: str = "") -> None:
        self._base_url = base_url
        self._credential = credential
        self._agent_id = agent_id
        # The operator named this server; wherever it stands, it is meant.
        policy = DialPolicy(purpose="agent.server", allow_private=True, allow_loopback=True)
        self._client = open_client(policy, ca_file=ca_file, timeout=timedelta(seconds=CALL_SECONDS))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def enrol(self, enrolment: Enrolment, attempt_id: str) -> Enrolled:
        """Become an agent; `attempt_id` stays the same over retries, so that the server can tell them from new ones."""
        content = msgspec.json.encode(enrolment)
        return await self._call("POST", "/api/v1/agents", Enrolled, content, {"Idempotency-Key": attempt_id})

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Give a sign of life; extends the leases named."""
        content = msgspec.json.encode(heartbeat)
        return await self._call("POST", f"{self._own_path}/heartbeat", HeartbeatReply, content)

    async def work(self, boot_id: str) -> Work:
        """Wait up to POLL_SECONDS for leased steps."""
        path = f"{self._own_path}/work?wait={POLL_SECONDS}&boot_id={boot_id}"
        return await self._call("GET", path, Work, timeout=POLL_SECONDS + _POLL_MARGIN_SECONDS)

    async def send(self, entry: Entry) -> None:
        """Hand over one result."""
        path = {
            "csr": f"{self._own_path}/csr",
            "status": f"{self._own_path}/jobs/{entry.job_id}/status",
            "verify": f"/api/v1/jobs/{entry.job_id}/verify",
        }[entry.kind]
        headers = {"traceparent": entry.traceparent} if parse_traceparent(entry.traceparent) else None
        await self._request("POST", path, msgspec.json.encode(entry.body), headers)

    async def time(self) -> datetime | None:
        """What the server's clock says; None when it does not tell. Needs no credential."""
        return (await self._call("GET", "/api/v1/version", _Version)).server_time

    async def check_credential(self) -> None:
        """Whether the credential is accepted for this agent id; changes nothing there. Raises as every call does."""
        with contextlib.suppress(Rejected):  # 404: no such certificate, which only a known agent is told
            await self._request("GET", f"{self._own_path}/certificates/-")

    @property
    def _own_path(self) -> str:
        return f"/api/v1/agents/{self._agent_id}"

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[AnswerT],
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout: float = CALL_SECONDS,
    ) -> AnswerT:
        answer = await self._request(method, path, content, headers, timeout)
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.MsgspecError as error:
            raise Temporary(f"the server's answer to {method} {_shown(path)} cannot be read: {error}") from error

    async def _request(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout: float = CALL_SECONDS,
    ) -> bytes:
        all_headers = {
            "Authorization": f"Bearer {self._credential.reveal()}",
            PROTOCOL_HEADER: str(PROTOCOL_VERSION),
            "User-Agent": f"certctl-agent/{__version__}",
            "Accept": "application/json",
            **({"Content-Type": "application/json"} if content else {}),
            **(headers or {}),
        }
        url = self._base_url + path
        call = _call_name(path)
        reach(f"agent.call.{call}.asking")
        try:
            response = await self._client.request(method, url, content=content, headers=all_headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise _transport_error(error, self._base_url) from error
        except Rejected as error:
            # The transport refused the answer's form (too long, compressed): that says nothing final of what was sent.
            raise Temporary(error.message) from error
        reach(f"agent.call.{call}.answered")
        if response.is_success:
            return response.content
        raise _status_error(response, f"{method} {_shown(path)}")


def _status_error(response: httpx.Response, call: str) -> CertctlError:
    status = response.status_code
    said = _said(response)
    message = f"the server answered {status} to {call}" + (f": {said}" if said else "")
    if status == httpx.codes.GONE:
        return Gone(message)
    if status == httpx.codes.UNAUTHORIZED:
        return NotAuthenticated(f"{message}; the credential is not accepted: enrol again or mend CERTCTL_API_KEY")
    if status == httpx.codes.FORBIDDEN:
        return NotAllowed(f"{message}; the credential is not allowed to do this: look at the agent's role and id")
    if status in {408, 425, 429} or status >= 500:  # RFC 9110 15.5.9, RFC 8470, RFC 6585: come back later
        return Temporary(message, retry_after=retry_after(response))
    return Rejected(message)


def _said(response: httpx.Response) -> str:
    """The one sentence of an error answer (RFC 9457 `detail`, or the reference's `error`), bounded; empty if none."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if not isinstance(body, dict):
        return ""
    text = next((body[key] for key in ("detail", "message", "error", "title") if isinstance(body.get(key), str)), "")
    return " ".join(text.split())[:300]


def _transport_error(error: httpx.HTTPError, url: str) -> CertctlError:
    told = transport_error(error, url)
    if isinstance(told, Misconfigured):
        return Misconfigured(
            f"{told.message}; name the CA that signed it in CERTCTL_SERVER_CA_BUNDLE_PATH (-ca-bundle)"
        )
    return told


def _call_name(path: str) -> str:
    """The last word of a path: work, heartbeat, csr, status, verify; agents is the enrolment."""
    return _shown(path).rpartition("/")[2]


def _shown(path: str) -> str:
    return path.partition("?")[0]
