"""Child processes: start them silently, wait for them, kill them."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE = 120  # seconds after which a load counts as hanging


def in_child(action: Callable[[], object]) -> int:
    """Run an action in a silent child with its own process group; the exit code shows whether it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns if this process has threads
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
    """Wait for a child and return its exit code, negative for a signal. A child that hangs is killed: None."""
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
    """Kill a process and its process group with SIGKILL."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def dies_at_rename(monkeypatch: pytest.MonkeyPatch, after: int, before: bool) -> None:
    """Kill the process before or after it renames its k-th file."""
    left, replace = [after], os.replace

    def dying_replace(*names: Any, **given: Any) -> None:
        left[0] -= 1
        if left[0] < 0 and before:
            os._exit(9)
        replace(*names, **given)
        if left[0] < 0:
            os._exit(9)

    monkeypatch.setattr(os, "replace", dying_replace)
