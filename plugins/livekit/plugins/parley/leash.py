"""A process that does not outlive the one that started it, however that one ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Runs argv[2:] so that the kernel ends it with the process that started it (Linux). A wrapper and
# no preexec_fn: code between fork and exec can deadlock in a process with threads. A parent that
# died before prctl took effect is noticed by its id.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def leashed(command: Sequence[str]) -> list[str]:
    """The command that runs ``command``, a program's path and its arguments, and sends it SIGTERM
    when this process has ended. Elsewhere than on Linux it is just ``command``."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
