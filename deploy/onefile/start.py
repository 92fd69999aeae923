"""The first code of the one-file agent: refuse a Python or machine it is not for, then unpack beneath the agent's own
state folder and start. Must never unpack into $HOME or a folder that others can write; scripts/build-agent fills in
what stands in @...@.
"""

import os
import sys
from pathlib import Path

PYTHON = "@PYTHON@"
MACHINE = "@MACHINE@"


def state_folder(arguments: list[str]) -> str:
    """Where the agent keeps its state: its flag, its variable or the default, as certctl.agent.settings has it."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in {"-state-dir", "--state-dir"}:
            return value if equals else "".join(arguments[index + 1 : index + 2])
    return os.environ.get("CERTCTL_AGENT_STATE_DIR", "").strip() or "/var/lib/certctl/agent"


def main() -> None:
    """Check, choose the folder, hand over to shiv."""
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if running != PYTHON:
        sys.exit(f"certctl-agent: this file is for Python {PYTHON}, and this is {running}")
    if os.uname().machine != MACHINE:
        sys.exit(f"certctl-agent: this file is for {MACHINE} machines, and this is {os.uname().machine}")
    for name in [name for name in os.environ if name.startswith("SHIV_") and name != "SHIV_ROOT"]:
        del os.environ[name]  # nothing in the environment chooses what is run
    root = Path(os.environ.setdefault("SHIV_ROOT", f"{state_folder(sys.argv[1:])}/unpacked"))
    if not root.is_absolute():
        sys.exit(f"certctl-agent: the state folder must be an absolute path, not {str(root.parent)!r}")
    try:
        for folder in (root.parent, root):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        from _bootstrap import bootstrap

        bootstrap()
    except PermissionError as error:
        sys.exit(f"certctl-agent: {error.filename} cannot be written; run this as the agent's user (or with sudo)")


main()
