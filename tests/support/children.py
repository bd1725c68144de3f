"""Processes of their own that do something in silence, are waited for, and killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

PATIENCE = 120  # seconds after which a load counts as hanging


def in_child(action: Callable[[], object]) -> int:
    """Start an action in a process group of its own, silent; its exit code says whether it raised."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    code = 1
    try:
        action()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def wait(child: int, patience: float = PATIENCE) -> int | None:
    """Exit code of a child, negative for a signal; None if it hangs, and is killed."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    kill(child)
    os.waitpid(child, 0)
    return None


def kill(child: int) -> None:
    """Kill a process and all that it started, without warning."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
