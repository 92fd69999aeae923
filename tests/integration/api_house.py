"""A whole API on a real, migrated database, spoken to through ASGI; a clock that moves when told."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from litestar import Litestar

from certctl.api import agent_protocol
from certctl.api import app as rest
from certctl.api.app import create_api
from certctl.bootstrap import House
from certctl.core.names import parse_names
from certctl.core.rules import DoorRules
from certctl.core.secret import Secret
from certctl.doors import batches, counted, driving, issuing, readiness, summaries
from certctl.doors.state import AppState
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from peers.installed import open_installed

TOKEN = "bootstrap-token-of-the-test"
LIMIT = 100_000
NGINX = {"cert_path": "/etc/nginx/tls/site.crt", "key_path": "/etc/nginx/tls/site.key"}


class HeldClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.moment


@dataclasses.dataclass
class Api:
    """The API and those who call it."""

    house: House
    state: AppState
    clock: HeldClock
    http: httpx.AsyncClient
    admin: str = ""

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        value = self.admin if key is None else key
        if value:
            headers["Authorization"] = f"Bearer {value}"
        if body is not None:
            more["json"] = body
        return await self.http.request(method, path, headers=headers, **more)

    async def get(self, path: str, **more: Any) -> Any:
        answer = await self.call("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def made(self, path: str, body: Any, status: int = 201, **more: Any) -> Any:
        answer = await self.call("POST", path, body, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def key(self, *role_ids: str, **more: Any) -> str:
        name = f"key-{'-'.join(role_ids)}-{len((await self.get('/api/v1/auth/keys'))['keys'])}"
        return (await self.made("/api/v1/auth/keys", {"name": name, "role_ids": list(role_ids)} | more))["key_value"]

    async def agent(self, name: str = "web-1") -> Agent:
        token = await self.made("/api/v1/agents/enrolment-tokens", {"agent_name": name})
        said = {"name": name, "hostname": f"{name}.test", "os": "linux", "version": "0.1.0"}
        enrolled = await self.made("/api/v1/agents", said, key=token["token"])
        return Agent(self, enrolled["id"], enrolled["credential"])

    async def target(self, agent: Agent, name: str = "site") -> str:
        body = {"name": name, "type": "nginx", "agent_id": agent.id, "config": NGINX}
        return (await self.made("/api/v1/targets", body))["id"]

    async def events(self, kind: str) -> list[dict[str, Any]]:
        from certctl.store import audit

        async with self.house.database.read() as tx:
            # all that is committed: who follows the log waits for every transaction of the cluster, of other tests too
            rows = await audit.newest_events(tx, self.house.ctx.scope, 10_000)
        return [dataclasses_of(row) for row in reversed(rows) if row.type == kind]


def dataclasses_of(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


@dataclasses.dataclass
class Agent:
    """An agent that speaks the protocol by hand."""

    api: Api
    id: str
    credential: str
    boot_id: str = "boot-1"
    keys: dict[str, Any] = dataclasses.field(default_factory=dict)
    serves: str = ""

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.api.call(method, path, body, key=self.credential, **more)

    async def work(self, wait: float = 0) -> list[dict[str, Any]]:
        answer = await self.call("GET", f"/api/v1/agents/{self.id}/work?wait={wait}&boot_id={self.boot_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["jobs"]

    async def csr(self, item: dict[str, Any]) -> httpx.Response:
        key = self.keys.setdefault(item["id"], generate_private_key(KeyAlgorithm(item["key_algorithm"])))
        pem = csr_pem(build_csr(key, item["common_name"], parse_names(item["sans"]), item["must_staple"]))
        body = {"csr_pem": pem, "job_id": item["id"], "step_id": item["step_id"], "fence": item["fence"]}
        return await self.call("POST", f"/api/v1/agents/{self.id}/csr", body)

    async def deploy(self, item: dict[str, Any]) -> httpx.Response:
        before, self.serves = self.serves, sha256_hex(read_certificates(item["certificate_pem"])[0])
        receipt = {"plan_id": item["plan_id"], "served_before": before, "served_after": self.serves}
        body = {"status": "Completed", "step_id": item["step_id"], "fence": item["fence"], "receipt": receipt}
        return await self.call("POST", f"/api/v1/agents/{self.id}/jobs/{item['id']}/status", body)

    async def verify(self, item: dict[str, Any]) -> httpx.Response:
        body = {
            "target_id": item["target_id"],
            "expected_fingerprint": item["fingerprint_sha256"],
            "actual_fingerprint": self.serves,
            "verified": True,
            "step_id": item["step_id"],
            "fence": item["fence"],
        }
        return await self.call("POST", f"/api/v1/jobs/{item['id']}/verify", body)

    async def serve(self) -> list[str]:
        """Do all there is to do; returns the kinds of steps done."""
        done = []
        while items := await self.work():
            for item in items:
                doing = {"prepare": self.csr, "deploy": self.deploy, "verify": self.verify}[item["step_kind"]]
                answer = await doing(item)
                assert answer.is_success, answer.text
                done.append(item["step_kind"])
        return done


_idle: list[Litestar] = []


@contextlib.contextmanager
def _routes_kept() -> Iterator[None]:
    """Routes are the same for everybody and take longer to make than most tests: who ends leaves them to the next.

    What differs is the one state that they find at their app; two that are open at once never share them.
    """
    taken = []
    real = rest.create_rest

    def create(state: AppState | None) -> Litestar:
        made = _idle.pop() if _idle else real(state)
        made.state.door = state
        taken.append(made)
        return made

    with mock.patch.object(rest, "create_rest", create):
        yield
    _idle.extend(taken)


@contextlib.asynccontextmanager
async def open_api(
    data_dir: Path, url: str = "", rules: DoorRules | None = None, *, new: bool = True, **environ: str
) -> AsyncIterator[Api]:
    """An API with its first administrator's key; without one when it is not new."""
    environment = (
        {"CERTCTL_DATA_DIR": str(data_dir), "CERTCTL_DATABASE_URL": url} if url else {"CERTCTL_DATA_DIR": str(data_dir)}
    )
    if url and not url.startswith("sqlite"):
        environment["CERTCTL_CONFIG_ENCRYPTION_KEY"] = "a-key-of-the-test-that-is-long-enough"
    clock = HeldClock()
    async with open_installed(environment | environ, clock) as house:
        house.database.on_wake = house.wakeups.tell
        state = AppState(
            house.ctx,
            house.wakeups,
            LIMIT,
            Secret(TOKEN),
            "0.1.0",
            clock.now(),
            rules=rules or DoorRules(),
            reader=house.reader,
        )
        # how long a request drives its jobs, or a probe waits for the database, is no subject here: a busy machine takes
        # longer and means the same
        patient = timedelta(minutes=1)
        with (
            _routes_kept(),
            mock.patch.object(driving, "BUDGET", patient),
            mock.patch.object(issuing, "BUDGET", patient),
            mock.patch.object(agent_protocol, "_DRIVE", patient),
            mock.patch.object(batches, "TURN", patient),
            mock.patch.object(counted, "PATIENCE_SECONDS", patient.total_seconds()),
            mock.patch.object(summaries, "PATIENCE_SECONDS", patient.total_seconds()),
            mock.patch.object(counted, "SHORT_PATIENCE_SECONDS", patient.total_seconds()),
            mock.patch.object(readiness, "_BOUND_SECONDS", patient.total_seconds()),
        ):
            transport = httpx.ASGITransport(create_api(state), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="https://certctl.test") as http:
                api = Api(house, state, clock, http)
                body = {"token": TOKEN, "actor_name": "admin"}
                if new:
                    api.admin = (await api.made("/api/v1/auth/bootstrap", body, key=""))["key_value"]
                yield api


def hours(number: float) -> timedelta:
    return timedelta(hours=number)
