"""A deployment (to NGINX, unless the order names another kind) in a child that dies where it is told to."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - a child that has become nobody may not be able to read the library
import encodings.idna  # noqa: F401 - the same
import json
import os
from pathlib import Path
from typing import Any

from certctl.connectors.base.target import Material, Receipt, Recovers, Target
from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import load_allow_file
from certctl.connectors.registry import open_target
from certctl.connectors.targets.nginx import NginxTarget
from certctl.core.errors import CertctlError
from certctl.telemetry import points
from peers.nginx import Nginx, fingerprint
from peers.zygote import die_at

POLICY = DialPolicy("agent.probe", (), allow_private=True, allow_loopback=True)


def material(folder: Path, certificate_pem: str, key_pem: bytes, chain_pem: str = "") -> Material:
    """A pair laid out as the agent has it: the key in a file of its own."""
    folder.mkdir(exist_ok=True)
    key_path = folder / f"{fingerprint(certificate_pem)}.key"
    key_path.write_bytes(key_pem)
    key_path.chmod(0o600)
    return Material(
        certificate_id="mc-1",
        version_id="cv-1",
        leaf_pem=certificate_pem,
        chain_pem=chain_pem,
        key_path=key_path,
        fingerprint_sha256=fingerprint(certificate_pem),
        common_name="shop.example",
        names=("shop.example",),
    )


def target_of(nginx: Nginx, **config: Any) -> NginxTarget:
    target = open_target(
        "NGINX",
        {**nginx.target_config, **config},
        allow=load_allow_file(nginx.allow_file),
        state_dir=nginx.dir / "state",
        dial_policy=POLICY,
    )
    assert isinstance(target, NginxTarget)
    return target


async def deploy(target: Target, pair: Material, plan_id: str = "dep-1") -> Receipt:
    return await target.apply(await target.plan(pair, plan_id), pair)


def run(order: dict[str, Any]) -> None:
    """In a child: deploy, or recover, and die at a point; the points passed are noted for the test."""
    if order.get("uid"):
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    passed: list[str] = []
    points.hook = die_at(order.get("point", ""), passed)
    target = open_target(
        order.get("kind", "NGINX"),
        order["config"],
        allow=load_allow_file(Path(order["allow"])),
        state_dir=Path(order["state"]),
        dial_policy=POLICY,
    )
    assert isinstance(target, Recovers)

    async def story() -> None:
        if order.get("recover"):
            await target.recover()
        else:
            pair = Material(**{**order["material"], "key_path": Path(order["material"]["key_path"])})
            await deploy(target, pair, order.get("plan_id", "dep-1"))

    error_file = Path(order["passed"]).with_name("error.txt")
    error_file.unlink(missing_ok=True)
    try:
        asyncio.run(story())
    except CertctlError as error:
        error_file.write_text(f"{error.code}: {error.message}")
        raise
    finally:
        Path(order["passed"]).write_text(json.dumps(passed))
