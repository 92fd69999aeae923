"""Runs the real control plane in a process of its own; what the environment may ask of its points: `fault_hook`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from peers import fault_hook

    fault_hook.install()
    from certctl.cli.server import main

    main()
