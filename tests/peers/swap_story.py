"""A swap of a key and a certificate under a pretended server that keeps what it last read in a file of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.group import NewFile
from certctl.connectors.host.journal import Journals
from certctl.connectors.host.swap import Swap, recover, swap
from certctl.core.errors import Misconfigured, Rejected
from certctl.telemetry import points
from peers.zygote import die_at


class PretendedServer:
    """Reads its pair when activated; refuses a pair that does not belong together, as a real one would."""

    def __init__(self, root: Path, fault: str = "") -> None:
        self.root = root
        self.fault = fault
        self.calls: list[str] = []

    async def validate(self, staged: Mapping[str, str]) -> None:
        self.calls.append("validate")
        ids = {name_of(Path(path).read_bytes()) for path in staged.values()}
        if self.fault == "validate" or len(ids) != 1:
            raise Rejected("the server would not take these")

    async def activate(self) -> None:
        self.calls.append("activate")
        live = live_pair(self.root)
        if live[0] != live[1]:
            raise Rejected("key and certificate do not belong together")
        if self.fault == "activate" and live[0] == "new":
            raise Rejected("reload failed")
        (self.root / "served").write_text(live[0])

    async def confirm(self, expected: tuple[str, ...]) -> str:
        self.calls.append("confirm")
        seen = self.served
        if seen not in expected or (self.fault == "confirm" and seen == "new"):
            raise Rejected(f"{seen} is served, not {expected}")
        return seen

    @property
    def served(self) -> str:
        path = self.root / "served"
        return path.read_text() if path.exists() else ""


class Story:
    """What recovery asks of a target."""

    def __init__(self, root: Path, fault: str = "") -> None:
        self.root = root
        self.fault = fault

    @property
    def paths(self) -> tuple[str, ...]:
        return str(self.root / "tls/key"), str(self.root / "tls/cert")

    def server(self, where: Mapping[str, str]) -> PretendedServer:
        assert where in ({}, {"endpoint": "here"})
        return PretendedServer(self.root, self.fault)

    def check_live(self, live: Mapping[str, bytes | None]) -> tuple[str, ...]:
        ids = {name_of(data or b"") for data in live.values()}
        if len(ids) != 1 or "" in ids:
            raise Misconfigured("key and certificate do not belong together")
        return tuple(ids)


def name_of(data: bytes) -> str:
    return data.decode().partition(":")[2]


def live_pair(root: Path) -> tuple[str, str]:
    """The names of the live key and certificate; empty where there is none."""
    texts = [path.read_bytes() if path.exists() else b"" for path in (root / "tls/key", root / "tls/cert")]
    return name_of(texts[0]), name_of(texts[1])


def lay_out(root: Path, *, old: bool = True) -> None:
    (root / "tls").mkdir(parents=True)
    if old:
        (root / "tls/key").write_text("key:old")
        (root / "tls/cert").write_text("cert:old")
        (root / "served").write_text("old")


def allow_of(root: Path) -> AllowFile:
    return AllowFile(path=root / "allow.toml", folders=(root / "tls",))


def order_of(root: Path, plan_id: str = "dep-1", name: str = "new", *, old: bool = True) -> Swap:
    return Swap(
        plan_id=plan_id,
        files=(
            NewFile(path=root / "tls/key", data=f"key:{name}".encode(), mode=0o600),
            NewFile(path=root / "tls/cert", data=f"cert:{name}".encode(), mode=0o644),
        ),
        expect_new=name,
        expect_old=("old",) if old else (),
        where={"endpoint": "here"},
    )


def run(order: dict[str, Any]) -> None:
    """In a child: swap, or recover, and die at a point; the points passed are noted for the test."""
    root = Path(order["root"])
    passed: list[str] = []
    points.hook = die_at(order.get("point", ""), passed)
    journals = Journals(root / "state")
    fault = order.get("fault", "")
    try:
        if order.get("recover"):
            asyncio.run(recover(journals, allow_of(root), Story(root, fault)))
        else:
            server = PretendedServer(root, fault)
            asyncio.run(swap(order_of(root, old=order.get("old", True)), server, journals, allow_of(root)))
    finally:
        (root / "passed.json").write_text(json.dumps(passed))
