"""A typed client of certctl's REST API: `Client` for scripts and terminals, `AsyncClient` for programs.

Both send the calls described in `calls` and raise the same errors that the server raised. A GET that fails for the
moment is tried again, anything else never. The server's certificate is always verified; no proxy of the environment
is used.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from certctl.client import calls
from certctl.client.calls import Call
from certctl.client.exchange import (
    Unreachable,
    answer_of,
    check_url,
    pause_before_retry,
    request_of,
    tls_context,
    transport_error,
)
from certctl.client.models.agents import AgentView, RetiredAnswer, TokenView, TokenWrite
from certctl.client.models.auth import BootstrapAnswer, MeView
from certctl.client.models.certificates import (
    CertificateView,
    CertificateWrite,
    DeploymentsAnswer,
    PemExport,
    VersionView,
)
from certctl.client.models.jobs import JobView
from certctl.client.models.page import PageOf, StatusAnswer
from certctl.client.models.targets import TargetView, TargetWrite
from certctl.core.errors import CertctlError, OutcomeUnknown
from certctl.core.secret import Secret

__all__ = ["AsyncClient", "Client", "Unreachable", "calls"]

AnswerT = TypeVar("AnswerT")


class Client:
    """One server, one key. Use as a context manager, or `close` it."""

    def __init__(
        self, url: str, key: Secret, ca_path: Path | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = check_url(url)
        self._key = key
        verify = tls_context(ca_path)
        self._http = httpx.Client(base_url=self.url, verify=verify, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[AnswerT]) -> AnswerT:
        """Send a call; raises CertctlError."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(call)
            except CertctlError as error:
                pause = pause_before_retry(call, error, attempt)
                if pause is None:
                    raise
                time.sleep(pause)

    def _once(self, call: Call[AnswerT]) -> AnswerT:
        try:
            response = self._http.request(**request_of(call, self._key))
        except httpx.HTTPError as error:
            raise _unanswered(call, error, self.url) from error
        return answer_of(call, response)

    # -- the calls most used, by name ---------------------------------------------------------------------------------

    def bootstrap(self, token: str, actor_name: str = "admin") -> BootstrapAnswer:
        """The first key, once."""
        return self.send(calls.bootstrap(token, actor_name))

    def get_me(self) -> MeView:
        """Who calls."""
        return self.send(calls.get_me())

    def list_certificates(self, *, page: int = 1, per_page: int = 500, **query: str) -> PageOf[CertificateView]:
        """One page; `query` narrows (status, q, owner_id, ...)."""
        return self.send(calls.CERTIFICATES.list(page, per_page, **query))

    def get_certificate(self, certificate_id: str) -> CertificateView:
        """One certificate; NotFound."""
        return self.send(calls.CERTIFICATES.get(certificate_id))

    def create_certificate(self, wanted: CertificateWrite) -> CertificateView:
        """Request a certificate."""
        return self.send(calls.CERTIFICATES.create(wanted))

    def update_certificate(self, certificate_id: str, changes: CertificateWrite) -> CertificateView:
        """Change a certificate field by field."""
        return self.send(calls.CERTIFICATES.update(certificate_id, changes))

    def archive_certificate(self, certificate_id: str) -> None:
        """Stop looking after it."""
        self.send(calls.CERTIFICATES.delete(certificate_id))

    def renew_certificate(self, certificate_id: str, *, force: bool = False) -> StatusAnswer:
        """Renew now."""
        return self.send(calls.renew_certificate(certificate_id, force=force))

    def deploy_certificate(
        self, certificate_id: str, *, target_id: str = "", version_id: str = "", dry_run: bool = False
    ) -> StatusAnswer:
        """Deploy now; `dry_run` only plans."""
        return self.send(
            calls.deploy_certificate(certificate_id, target_id=target_id, version_id=version_id, dry_run=dry_run)
        )

    def revoke_certificate(
        self, certificate_id: str, *, reason: str = "", version_id: str = "", replace: bool = False
    ) -> StatusAnswer:
        """Revoke at once."""
        return self.send(
            calls.revoke_certificate(certificate_id, reason=reason, version_id=version_id, replace=replace)
        )

    def list_versions(self, certificate_id: str) -> PageOf[VersionView]:
        """Versions, newest first."""
        return self.send(calls.list_versions(certificate_id))

    def list_deployments(self, certificate_id: str) -> DeploymentsAnswer:
        """Where it is, and what is known there."""
        return self.send(calls.list_deployments(certificate_id))

    def export_pem(self, certificate_id: str, version_id: str = "") -> PemExport:
        """What was issued, in PEM."""
        return self.send(calls.export_pem(certificate_id, version_id))

    def list_jobs(self, *, page: int = 1, per_page: int = 500, **query: str) -> PageOf[JobView]:
        """One page, newest first; `query` narrows (status, type, certificate_id, ...)."""
        return self.send(calls.JOBS.list(page, per_page, **query))

    def get_job(self, job_id: str, wait_seconds: float = 0) -> JobView:
        """One job; `wait_seconds` holds the answer until it has moved or ended."""
        return self.send(calls.get_job(job_id, wait_seconds))

    def cancel_job(self, job_id: str) -> StatusAnswer:
        """Cancel it."""
        return self.send(calls.cancel_job(job_id))

    def get_target(self, target_id: str) -> TargetView:
        """One target; NotFound."""
        return self.send(calls.TARGETS.get(target_id))

    def create_target(self, wanted: TargetWrite) -> TargetView:
        """A new target."""
        return self.send(calls.TARGETS.create(wanted))

    def update_target(self, target_id: str, changes: TargetWrite) -> TargetView:
        """Change a target."""
        return self.send(calls.TARGETS.update(target_id, changes))

    def list_agents(self, *, page: int = 1, per_page: int = 500) -> PageOf[AgentView]:
        """Agents that are not retired."""
        return self.send(calls.AGENTS.list(page, per_page))

    def get_agent(self, agent_id: str) -> AgentView:
        """One agent; NotFound."""
        return self.send(calls.AGENTS.get(agent_id))

    def create_enrolment_token(
        self, *, agent_name: str = "", agent_group: str = "", expires_in_seconds: int = 3600
    ) -> TokenView:
        """A one-time right to enrol, for one name or one of a group."""
        wanted = TokenWrite(agent_name=agent_name, agent_group=agent_group, expires_in_seconds=expires_in_seconds)
        return self.send(calls.create_enrolment_token(wanted))

    def retire_agent(self, agent_id: str, *, reason: str = "", force: bool = False) -> RetiredAnswer | None:
        """Retire it for good; None when it was retired before."""
        return self.send(calls.retire_agent(agent_id, reason=reason, force=force))


class AsyncClient:
    """The same for asyncio: `await client.send(calls.get_job(...))`. Use as a context manager, or `aclose` it."""

    def __init__(
        self, url: str, key: Secret, ca_path: Path | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = check_url(url)
        self._key = key
        verify = tls_context(ca_path)
        self._http = httpx.AsyncClient(base_url=self.url, verify=verify, trust_env=False, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[AnswerT]) -> AnswerT:
        """Send a call; raises CertctlError."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(call)
            except CertctlError as error:
                pause = pause_before_retry(call, error, attempt)
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def _once(self, call: Call[AnswerT]) -> AnswerT:
        try:
            response = await self._http.request(**request_of(call, self._key))
        except httpx.HTTPError as error:
            raise _unanswered(call, error, self.url) from error
        return answer_of(call, response)


def _unanswered(call: Call[AnswerT], error: httpx.HTTPError, url: str) -> CertctlError:
    """A change that may have been made is said to be unknown; nothing is sent twice."""
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if sent and call.method != "GET":
        return OutcomeUnknown(
            f"the connection to {url} broke while a change was under way; look whether it happened before asking again",
            reference=call.path,
            detail=str(error),
        )
    return transport_error(error, url)
