"""`certctl-server --migrate-only` that is killed (-9) at the DIE_AFTER-th statement that changes the schema or its data."""

from __future__ import annotations

import os
import signal

import sqlalchemy as sa
from sqlalchemy.engine import Engine

CHANGES = ("CREATE ", "ALTER ", "DROP ", "INSERT ", "UPDATE ", "DELETE ")


def arm(after: int) -> None:
    """Count from now on."""
    left = after

    def count(_connection, _cursor, statement, _parameters, _context, _many):
        nonlocal left
        if statement.lstrip().upper().startswith(CHANGES):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(Engine, "before_cursor_execute", count)


if __name__ == "__main__":
    arm(int(os.environ["DIE_AFTER"]))
    from certctl.cli.server import main

    main(["--migrate-only"])
