"""Becomes a command, after binding itself to a core and to the life of whoever started it. A script: `settle.py PARENT CORE COMMAND...`.

A step of its own because the same between fork and exec (preexec_fn) may deadlock in a process that has threads. CORE may be `-` (it stays
where its parent is) or `*` (it may go anywhere).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def main(parent: int, core: str, command: list[str]) -> None:
    """Does not return."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that wanted this is gone")  # It died before prctl: nobody is left to send the signal.
    if core == "*":
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    elif core != "-":
        os.sched_setaffinity(0, {int(core)})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
