"""Runs the real agent in a process of its own: `python agent_process.py [arguments of certctl-agent]`.

What the environment may ask of its points: `fault_hook`. With FILE_TARGET the FILE target is known to it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from peers import fault_hook

    fault_hook.install()
    if os.environ.get("FILE_TARGET"):
        from certctl.connectors import registry

        registry.TARGETS = (*registry.TARGETS, registry.Entry("FILE", "peers.file_target", "FileTarget", "FileConfig"))
    from certctl.cli.agent import main

    main()
