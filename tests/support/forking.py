"""Fast child processes: forks of a process that has already imported the slow libraries."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

READY = """
import json, os, signal, sys, traceback
exec(sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    told = json.loads(line)
    if child := os.fork():
        print(child, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["cwd"])
    for stream, name in enumerate((os.devnull, told["out"], told["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv[1:] = told["args"]
    try:
        exec(told["code"], {"sys": sys, "__name__": "__main__"})
        code = 0
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    with open(told["done"] + ".new", "w") as file:
        file.write(str(code))
    os.rename(told["done"] + ".new", told["done"])
    os._exit(0)
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def __getitem__(self, name: str) -> Any:
        """Return a value of the JSON object that the command printed."""
        return json.loads(self.out.splitlines()[-1])[name]

    def rows(self) -> Any:
        """Return the last value that the code printed as JSON after a #."""
        assert self.code == 0, f"{self.out}\n{self.err}"
        return json.loads([line for line in self.out.splitlines() if line.startswith("#")][-1][1:])


@dataclass(frozen=True)
class Child:
    """A forked process, and the files that it writes its output to."""

    pid: int
    folder: Path

    def result(self) -> Done:
        self.until(lambda: False)
        out, err = ((self.folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return Done(int((self.folder / "done").read_text()), out, err)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until a condition holds or the process ends."""
        deadline = time.monotonic() + 60
        while not (self.folder / "done").exists() and not reached():
            assert time.monotonic() < deadline, (self.folder / "err").read_text()
            time.sleep(0.01)

    def kill_when(self, reached: Callable[[], bool]) -> None:
        self.until(reached)
        assert not (self.folder / "done").exists(), self.result()
        os.kill(self.pid, signal.SIGKILL)


class Ready:
    """A process that has imported everything needed, and forks a child for each call. The first call starts it."""

    def __init__(self, imports: str, env: dict[str, str], folder: Path) -> None:
        folder.mkdir()
        self.imports, self.env, self.folder, self.calls = imports, env, folder, 0

    @cached_property
    def process(self) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-c", READY, self.imports], subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self.env, cwd=self.folder)

    def call(self, code: str, args: list[str], env: dict[str, str]) -> Child:
        self.calls += 1
        place = self.folder / str(self.calls)
        (place / "cwd").mkdir(parents=True)
        files = {name: str(place / name) for name in ("out", "err", "done", "cwd")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "args": args, "env": env, **files}) + "\n")
        self.process.stdin.flush()
        return Child(int(self.process.stdout.readline()), place)

    def stop(self) -> None:
        if self.calls:
            self.process.communicate()


def run_module(
    module: str, arguments: list[str], folder: Path, *, before: Callable[[], object] = bool, stdout: Path | None = None
) -> Done:
    """Run a module as a program in a fork of this process.

    Args:
        module: what `python -m` would run.
        arguments: the command line after the module's name.
        folder: the program's current folder.
        before: called first, in the fork.
        stdout: where the program's output goes instead of `out`.
    """
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns because this process has threads
        child = os.fork()
    if not child:
        code = 1
        try:
            for stream, path in ((1, stdout or out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", encoding="utf-8") for stream in (1, 2))
            os.chdir(folder)
            sys.argv[1:] = arguments
            warnings.simplefilter("ignore")
            before()
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            for flushed in filter(None, (sys.stdout, sys.stderr)):
                with contextlib.suppress(OSError, ValueError):
                    flushed.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Done(code, "" if stdout else out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))
