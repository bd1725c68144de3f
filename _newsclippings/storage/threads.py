"""Work done ahead of its consumer, in threads; and locks that a forked process does not wait for.

A fork copies locks as they are, but not the threads that hold them: what such a thread would have released stays
locked in the child for ever. So locks of this package are made anew there, nothing is computed under the one lock that
`functools.cached_property` has before Python 3.12, and no process forks while something is imported.
"""

import contextlib
import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar, overload

from tqdm import std as progress

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Owner = TypeVar("Owner")


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Argument], Result], arguments: Iterable[Argument], ahead: int
) -> Iterator[tuple[Argument, Result]]:
    """Call a function in threads, `ahead` calls before their results are asked for; yields in the order given.

    What the function raises is raised here, in its turn. Who stops early cancels what was not begun. In a process that
    was forked meanwhile, where the threads are not, it is called when its result is asked for.
    """
    waiting: deque[tuple[Argument, Future[Result]]] = deque()
    todo, process = iter(arguments), os.getpid()
    try:
        while os.getpid() == process:
            for argument in itertools.islice(todo, ahead - len(waiting)):
                waiting.append((argument, _submit(pool, function, argument)))
            if not waiting:
                return
            argument, future = waiting.popleft()
            yield argument, future.result()
        for argument in itertools.chain([argument for argument, _ in waiting], todo):
            yield argument, function(argument)
    finally:
        if os.getpid() == process:
            for _, future in waiting:
                future.cancel()


def limit_threads(threads: int) -> int:
    """How many of some threads to start: each reserves up to 72 MB of address space, which may be limited."""
    if resource is None:
        return threads
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return threads if limit == resource.RLIM_INFINITY else max(1, min(threads, limit >> 29))


def _submit(pool: ThreadPoolExecutor, function: Callable[[Argument], Result], argument: Argument) -> "Future[Result]":
    """As the pool does; in this thread where the system starts no more of them, of processes or address space."""
    try:
        return pool.submit(function, argument)
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
    future: Future[Result] = Future()
    try:
        future.set_result(function(argument))
    except Exception as error:
        future.set_exception(error)
    return future


class Lock:
    """A lock for `with`, which is free in a forked process, whoever held it before."""

    def __init__(self) -> None:
        self._lock = self._held = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *_: object) -> None:
        self._held.release()  # the one that was taken: of a holder who forks the other one is new

    def __reduce__(self) -> tuple[type["Lock"], tuple[()]]:
        return Lock, ()  # in another process, it is another one, and free

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()


class lazy_property(Generic[Owner, Result]):  # as functools.cached_property
    """A property that is computed when it is first asked for, and kept in the instance; without a lock."""

    def __init__(self, compute: Callable[[Owner], Result]) -> None:
        self._compute = compute
        functools.update_wrapper(self, compute)  # type: ignore[arg-type] # for its name and docstring

    @overload
    def __get__(self, instance: None, owner: Any = None) -> "lazy_property[Owner, Result]": ...

    @overload
    def __get__(self, instance: Owner, owner: Any = None) -> Result: ...

    def __get__(self, instance: Owner | None, owner: Any = None) -> "Result | lazy_property[Owner, Result]":
        """Its value; from then on the instance has it as an attribute, which comes before this."""
        if instance is None:
            return self
        value = self._compute(instance)
        kept: Result = instance.__dict__.setdefault(self._compute.__name__, value)
        return kept


@contextlib.contextmanager
def delay_forks() -> Iterator[None]:
    """Let forks wait while the block runs: what a thread is about to import, nobody could import in the child."""
    with _importing:
        yield


_LOCKS: "weakref.WeakSet[Lock]" = weakref.WeakSet()
_importing = threading.RLock()


def _renew_in_child() -> None:
    global _importing
    _importing = threading.RLock()
    for lock in list(_LOCKS):
        lock.renew()
    _renew_progress_locks()


def _renew_progress_locks() -> None:
    """Those of tqdm, which even a bar that is not shown takes.

    Its lock between processes goes, too: in a child that was forked while a thread held it, it counts that thread for
    ever, and is never given back by the first one to take it there, which holds up the parent as well. So bars of
    several processes may be drawn over each other.
    """
    default = progress.TqdmDefaultWriteLock
    default.th_lock = threading.RLock()
    if not hasattr(default, "mp_lock"):
        return  # no bar was made yet
    default.mp_lock = None
    lock, classes = default(), [progress.tqdm]
    while classes:
        bar = classes.pop()
        classes += bar.__subclasses__()
        bar.monitor = None  # a thread, which is not there
        if isinstance(bar.get_lock(), default):
            bar.set_lock(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _importing.acquire(),
        after_in_parent=lambda: _importing.release(),
        after_in_child=_renew_in_child,
    )
