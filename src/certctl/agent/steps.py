"""The kinds of step an agent works: prepare (key and CSR), prove (a CA's challenges), deploy (pair on target), verify
(what is served), plan.

Each turns a work item into a report or raises; any order, twice, after a crash: the story ends the same. Must never put
a private key into a report: the CSR and the target's receipt are all that leaves this host.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from certctl.agent.durable import private_folder
from certctl.agent.intents import DeployIntent, Intents
from certctl.agent.keystore import DeployedKey, KeyStore
from certctl.agent.proving import Proving
from certctl.connectors.base.target import Material, Probes, Recovers
from certctl.core.errors import CertctlError, Misconfigured, TrustError, Unsupported
from certctl.core.ids import check_id
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.telemetry.logging import get_logger
from certctl.telemetry.points import reach
from certctl.wire.agent import CsrReport, PlanReport, StatusReport, VerifyReport, WorkItem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from certctl.connectors.base.target import Target
    from certctl.connectors.host.allow import AllowFile

log = get_logger(__name__)

PREPARE, PROVE, DEPLOY, VERIFY, PLAN = "prepare", "prove", "deploy", "verify", "plan"
KINDS = (PREPARE, DEPLOY, VERIFY, PLAN, PROVE)


class Steps:
    """Works steps on this host: the keys, the targets and the host's own allow-file."""

    def __init__(self, keystore: KeyStore, intents: Intents, state_dir: Path, allow_file: Path) -> None:
        self._keystore = keystore
        self._intents = intents
        self._targets_dir = private_folder(state_dir / "targets")
        self._allow_file = allow_file
        self._proving = Proving(state_dir, self._allow)

    async def work(self, item: WorkItem) -> CsrReport | StatusReport | VerifyReport:
        """Work one step; the report has no fence yet. Raises CertctlError, Unsupported for an unknown kind."""
        if item.step_kind == PREPARE:
            return await self.prepare(item)
        if item.step_kind == PROVE:
            tokens = await self._proving.hold(check_id(item.id, "id"), item.answers)
            return StatusReport(status="Completed", step_id=item.step_id, proved=tokens)
        if item.step_kind == DEPLOY:
            return await self.deploy(item)
        if item.step_kind == VERIFY:
            return await self.verify(item)
        if item.step_kind == PLAN:
            return await self.plan(item)
        raise Unsupported(f"step kind {item.step_kind!r} is not known to this agent; update the agent")

    async def prepare(self, item: WorkItem) -> CsrReport:
        """The key of this job, made or found again, and a CSR for exactly the names given (RFC 2986)."""
        # cryptography is loaded with the first key, not at start.
        from certctl.pki.csr import build_csr, csr_pem
        from certctl.pki.keys import generate_private_key, load_private_key, private_key_pem

        algorithm = _algorithm(item.key_algorithm)
        names = parse_names(item.sans)

        def make() -> bytes:
            return private_key_pem(generate_private_key(algorithm))

        # RSA takes tens of milliseconds of CPU and more; the thread keeps heartbeats going.
        pem = await asyncio.to_thread(self._keystore.stage, item.certificate_id, item.id, make)
        reach("agent.prepare.staged")
        csr_der = build_csr(load_private_key(pem), item.common_name, names, item.must_staple)
        return CsrReport(
            csr_pem=csr_pem(csr_der), certificate_id=item.certificate_id, job_id=item.id, step_id=item.step_id
        )

    async def deploy(self, item: WorkItem) -> StatusReport:
        """The version of this step on its target, proven to be served; the plan id makes twice once."""
        material = self._material(item)
        plan_id = check_id(item.plan_id, "plan_id")
        target = self._open(item.target_type, item.target_config, item.target_id)
        self._intents.begin(
            DeployIntent(
                plan_id=plan_id,
                certificate_id=item.certificate_id,
                key_job_id=item.key_job_id,
                target_id=item.target_id,
                target_type=item.target_type,
                target_config=item.target_config,
            )
        )
        if isinstance(target, Recovers):
            # A crash of an earlier attempt is settled before the same files are touched again.
            _log_settled(item.target_id, await target.recover())
        plan = await target.plan(material, plan_id)
        reach("agent.deploy.planned")
        receipt = await target.apply(plan, material)
        reach("agent.deploy.applied")
        self._keystore.note_deployed(
            item.certificate_id,
            DeployedKey(
                job_id=item.key_job_id,
                target_id=item.target_id,
                version_id=item.version_id,
                fingerprint_sha256=receipt.fingerprint_sha256,
                at=receipt.applied_at,
            ),
        )
        return StatusReport(status="Completed", step_id=item.step_id, receipt=msgspec.to_builtins(receipt))

    async def verify(self, item: WorkItem) -> VerifyReport:
        """What the target serves now, held against the expected fingerprint."""
        expected = item.fingerprint_sha256.lower()
        target = self._open(item.target_type, item.target_config, item.target_id)
        if not isinstance(target, Probes):
            raise Unsupported(f"a target of type {item.target_type} cannot be looked at from this agent")
        served = await target.served()
        differs = "" if served == expected else f"the target serves {served}, expected is {expected}"
        return VerifyReport(
            target_id=item.target_id,
            expected_fingerprint=expected,
            actual_fingerprint=served,
            verified=not differs,
            error=differs,
            step_id=item.step_id,
        )

    async def plan(self, item: WorkItem) -> StatusReport:
        """What a deployment would do on this host: every check that needs no change, and nothing written."""
        material = self._material(item)
        target = self._open(item.target_type, item.target_config, item.target_id)
        told = msgspec.to_builtins(await target.plan(material, check_id(item.plan_id, "plan_id")))
        planned = msgspec.convert(told, PlanReport)
        if isinstance(target, Probes):
            try:
                planned.served_now = await target.served()
            except CertctlError as error:
                planned.summary.append(f"nothing is seen to be served there now: {error.message}")
        return StatusReport(status="Completed", step_id=item.step_id, plan=planned)

    def settle(self, item: WorkItem) -> None:
        """The result of this step is kept: its intent goes."""
        if item.step_kind == DEPLOY and item.plan_id:
            self._intents.settle(item.plan_id)

    def prune(self, now: datetime) -> None:
        """Remove keys that no deployment, begun or done, can need any more."""
        in_hand = frozenset((intent.certificate_id, intent.key_job_id) for intent in self._intents.open())
        self._keystore.prune(now, in_hand)

    async def recover(self, plan_id: str = "") -> None:
        """Settle every deployment (or this one) that was left half done; what cannot be settled is logged and kept."""
        if not plan_id:
            await self._proving.recover()
        for intent in self._intents.open():
            if plan_id not in {"", intent.plan_id}:
                continue
            try:
                target = self._open(intent.target_type, intent.target_config, intent.target_id)
                if isinstance(target, Recovers):
                    _log_settled(intent.target_id, await target.recover())
                self._intents.settle(intent.plan_id)
            except CertctlError as error:
                log.error("agent.recovery_failed", target_id=intent.target_id, plan_id=intent.plan_id, error=error)  # noqa: TRY400 - an expected kind, told in one line

    async def close(self) -> None:
        """The agent stops: it answers no challenge any more."""
        await self._proving.close()

    def _allow(self) -> AllowFile:
        """The allow-file as it is now."""
        from certctl.connectors.host.allow import load_allow_file

        return load_allow_file(self._allow_file)

    def _material(self, item: WorkItem) -> Material:
        from certctl.pki.fingerprints import sha256_hex
        from certctl.pki.keys import public_key_matches
        from certctl.pki.pem import read_certificates

        leaf_der = read_certificates(item.certificate_pem)[0]
        fingerprint = sha256_hex(leaf_der)
        if item.fingerprint_sha256 and item.fingerprint_sha256.lower() != fingerprint:
            raise TrustError("the certificate sent is not the one its fingerprint names")
        public_key_matches(self._keystore.read(item.certificate_id, item.key_job_id), leaf_der)
        return Material(
            certificate_id=item.certificate_id,
            version_id=item.version_id,
            leaf_pem=item.certificate_pem,
            chain_pem=item.chain_pem,
            key_path=self._keystore.path_of(item.certificate_id, item.key_job_id),
            fingerprint_sha256=fingerprint,
            common_name=item.common_name,
            names=tuple(item.sans),
        )

    def _open(self, kind: str, config: Mapping[str, Any], target_id: str) -> Target:
        """The target, with the allow-file as it is now and a journal folder of its own."""
        from certctl.connectors.dial import DialPolicy
        from certctl.connectors.registry import TARGETS, find_entry, open_target

        find_entry(TARGETS, kind, "target")
        return open_target(
            kind,
            config,
            allow=self._allow(),
            state_dir=private_folder(self._targets_dir / check_id(target_id, "target_id")),
            # The agent looks at servers of its own host and network: that is what it is for.
            dial_policy=DialPolicy(purpose="agent.probe", allow_private=True, allow_loopback=True),
        )


def failure_report(item: WorkItem, error: BaseException) -> StatusReport | VerifyReport:
    """The report of a step that failed; the text of an unexpected error stays in the agent's log."""
    known = error if isinstance(error, CertctlError) else None
    message = known.message if known else "the agent met an unexpected error; its log has the trace"
    code = known.code if known else "internal"
    if item.step_kind == VERIFY:
        return VerifyReport(
            target_id=item.target_id,
            expected_fingerprint=item.fingerprint_sha256.lower(),
            error=message,
            error_kind=code,
            step_id=item.step_id,
        )
    return StatusReport(status="Failed", error=message, error_kind=code, step_id=item.step_id)


def _algorithm(text: str) -> KeyAlgorithm:
    for algorithm in KeyAlgorithm:
        if algorithm.casefold() == text.casefold():
            return algorithm
    raise Misconfigured(f"key algorithm {text!r} is not known to this agent; known are {', '.join(KeyAlgorithm)}")


def _log_settled(target_id: str, sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        log.warning("agent.recovered", target_id=target_id, outcome=sentence)
