"""Runs the real control plane in a process of its own, as `server_process.py` does.

POLL_BENEATH_SECONDS   how long the lookout for waiting polls pauses between two looks.
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
        from certctl.api import lookout

        lookout.LOOK_SECONDS = float(os.environ["POLL_BENEATH_SECONDS"])
    from certctl.cli.server import main

    main()
