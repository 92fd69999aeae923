"""Runs the real control plane in a process of its own, as `server_process.py` does.

POLL_BENEATH_SECONDS   how long an agent's long poll waits between two looks when nobody wakes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from peers import fault_hook

    fault_hook.install()
    if os.environ.get("POLL_BENEATH_SECONDS"):
        from certctl.api import agent_protocol

        agent_protocol._POLL_BENEATH_SECONDS = float(os.environ["POLL_BENEATH_SECONDS"])
    from certctl.cli.server import main

    main()
