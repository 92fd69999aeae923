"""What the benches share: where they ran, how busy the machine was, how a result is printed and kept."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every bench takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--keep", action="store_true", help="write the figures under bench/results")
    return parser


def commit() -> str:
    """What was measured; a tree with changes says so."""
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    return told.stdout.strip() or "none"


def machine() -> dict[str, object]:
    """Where the figures come from."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def load() -> float:
    """The load average of the last minute: figures of a busy machine are compared within one run alone."""
    return round(os.getloadavg()[0], 2)


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, key: str, body: bytes
) -> tuple[int, bytes]:
    """One call over a connection that is kept: status and body. No client library, whose cost would be measured too."""
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    return int(status.split()[1]), await reader.readexactly(int(lengths[0]))


def milliseconds(took: list[float]) -> dict[str, float]:
    """Percentiles of seconds, in milliseconds."""
    ordered = sorted(took)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p95_ms": round(ordered[int(0.95 * len(ordered))] * 1000, 2),
        "p99_ms": round(ordered[int(0.99 * len(ordered))] * 1000, 2),
    }


def tell(part: str, figures: dict[str, Any], *, keep: bool) -> None:
    """Print the figures as JSON, with the machine they come from; keep them when asked to."""
    now, measured = datetime.now(UTC), commit()
    whole = {"at": now.isoformat(timespec="seconds"), "commit": measured, "machine": machine(), "load_after": load()}
    text = json.dumps(whole | figures, indent=2)
    sys.stdout.write(text + "\n")
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{now:%Y%m%d}-{part}-{measured}.json").write_text(text + "\n")
