"""Plays the hosts of a sample fleet: each polls with its own credential and does its work, on endpoints that are not.

So that what is clicked in the dashboard goes on. Keys are made and dropped, receipts say that they are samples, and the
places that the fleet has broken stay broken. A host that is silent stays silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec

from certctl.core.names import parse_names
from certctl.core.secret import Secret
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from certctl.sample.plan import Fate, HostPlan, Plan
from certctl.sample.rows import why_failed
from certctl.wire.agent import PROTOCOL_HEADER, CsrReport, StatusReport, VerifyReport, Work, WorkItem

_WAIT_SECONDS = 25
_AGAIN_SECONDS = 5.0
_LONGEST_ANSWER = 60.0
_ELSEWHERE = "another program listens on the port and serves a certificate of its own; the old pair was put back"


class Players:
    """All hosts that are heard from, in one thread of their own."""

    def __init__(self, url: str, ca_path: Path, plan: Plan, credential: Callable[[str], Secret]) -> None:
        self._url, self._ca_path, self._credential = url, ca_path, credential
        self._hosts = [host for host in plan.hosts if host.silent_since is None and host.retired_at is None]
        self._broken = {place.id for life in plan.lives if life.fate is Fate.UNDEPLOYED for place in life.places}
        self._elsewhere = {place.id for life in plan.lives if life.fate is Fate.DRIFTED for place in life.places}
        self._serves: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="players", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling; what is under way is dropped, as when the power fails."""
        self._stopped.set()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                loop.call_soon_threadsafe(self._cancel)
        self._thread.join(10)

    def _cancel(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._all())

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        context = ssl.create_default_context(cafile=str(self._ca_path))
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            base_url=f"{self._url}/api/v1", verify=context, timeout=_LONGEST_ANSWER, limits=limits
        ) as client:
            await asyncio.gather(*(self._play(client, host) for host in self._hosts))

    async def _play(self, client: httpx.AsyncClient, host: HostPlan) -> None:
        while not self._stopped.is_set():
            try:
                path = f"/agents/{host.id}/work?wait={_WAIT_SECONDS}&boot_id={host.id}-played"
                answer = await self._call(client, host, "GET", path)
                for item in msgspec.json.decode(answer.content, type=Work).jobs:
                    await self._do(client, host, item)
            except (httpx.HTTPError, msgspec.MsgspecError):
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _do(self, client: httpx.AsyncClient, host: HostPlan, item: WorkItem) -> None:
        if item.step_kind == "prepare":
            key = generate_private_key(KeyAlgorithm(item.key_algorithm))
            pem = csr_pem(build_csr(key, item.common_name, parse_names(item.sans), item.must_staple))
            csr = CsrReport(csr_pem=pem, job_id=item.id, step_id=item.step_id, fence=item.fence)
            await self._call(client, host, "POST", f"/agents/{host.id}/csr", csr)
        elif item.step_kind == "deploy":
            said = self._deployed(item)
            await self._call(client, host, "POST", f"/agents/{host.id}/jobs/{item.id}/status", said)
        elif item.step_kind == "verify":
            seen = self._serves.get(item.target_id, item.fingerprint_sha256)
            sight = VerifyReport(
                target_id=item.target_id,
                expected_fingerprint=item.fingerprint_sha256,
                actual_fingerprint=seen,
                verified=seen == item.fingerprint_sha256,
                step_id=item.step_id,
                fence=item.fence,
            )
            await self._call(client, host, "POST", f"/jobs/{item.id}/verify", sight)
        else:
            said = StatusReport(
                status="Failed", error="a sample's host plans nothing", error_kind="unsupported",
                step_id=item.step_id, fence=item.fence,
            )  # fmt: skip
            await self._call(client, host, "POST", f"/agents/{host.id}/jobs/{item.id}/status", said)

    def _deployed(self, item: WorkItem) -> StatusReport:
        if item.target_id in self._broken or item.target_id in self._elsewhere:
            why = why_failed(item.target_type) if item.target_id in self._broken else _ELSEWHERE
            return StatusReport(
                status="Failed", error=why, error_kind="rejected", step_id=item.step_id, fence=item.fence
            )
        before = self._serves.get(item.target_id, "")
        self._serves[item.target_id] = sha256_hex(read_certificates(item.certificate_pem)[0])
        receipt = {
            "plan_id": item.plan_id, "served_before": before, "served_after": self._serves[item.target_id],
            "sample": True,
        }  # fmt: skip
        return StatusReport(status="Completed", step_id=item.step_id, fence=item.fence, receipt=receipt)

    async def _call(
        self, client: httpx.AsyncClient, host: HostPlan, method: str, path: str, body: msgspec.Struct | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._credential(host.id).reveal()}", PROTOCOL_HEADER: "1"}
        content = msgspec.json.encode(body) if body is not None else None
        if content is not None:
            headers["Content-Type"] = "application/json"
        answer = await client.request(method, path, headers=headers, content=content)
        # a result that comes too late is refused for good: there is nothing to send again
        if answer.status_code >= 500 or answer.status_code == 401:
            answer.raise_for_status()
        return answer
