"""Run work in threads ahead of its consumer, and keep locks from blocking forked processes.

A fork copies locks in their state, but not the threads that hold them, so a lock held by another thread stays locked in
the child for ever. Therefore this package's locks are replaced in a child, nothing is computed under the lock that
`functools.cached_property` has before Python 3.12, and no process forks during certain imports.
"""

import contextlib
import functools
import itertools
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar, overload

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
    """Call a function in threads, up to `ahead` calls before their results are needed.

    Calls that have not started are cancelled if the consumer stops early. In a process that is forked in between, which
    has no threads, each call is made when its result is needed.

    Args:
        pool: the threads.
        function: takes one argument. What it raises is raised here, in its turn.
        arguments: one for each call.
        ahead: number of calls.

    Returns:
        Each argument with its result, in the given order.
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
    """Return how many threads to start, at most `threads`: each reserves up to 72 MB of limited address space."""
    if resource is None:
        return threads
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return threads if limit == resource.RLIM_INFINITY else max(1, min(threads, limit >> 29))


def _submit(pool: ThreadPoolExecutor, function: Callable[[Argument], Result], argument: Argument) -> "Future[Result]":
    """Submit a call to the pool; make it in this thread if the system's limits allow no further thread."""
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
    """A lock for `with` that is free in a forked process, even if a thread of the parent holds it."""

    def __init__(self) -> None:
        self._lock = self._held = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(self, *_: object) -> None:
        self._held.release()  # not `self._lock`, which is new if the holder forked

    def __reduce__(self) -> tuple[type["Lock"], tuple[()]]:
        return Lock, ()  # unpickled in another process, it is a free lock

    def renew(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.Lock()


class lazy_property(Generic[Owner, Result]):  # lower case like functools.cached_property
    """A property that is computed on first access and kept in the instance; without a lock."""

    def __init__(self, compute: Callable[[Owner], Result]) -> None:
        self._compute = compute
        functools.update_wrapper(self, compute)  # type: ignore[arg-type] # copies name and docstring

    @overload
    def __get__(self, instance: None, owner: Any = None) -> "lazy_property[Owner, Result]": ...

    @overload
    def __get__(self, instance: Owner, owner: Any = None) -> Result: ...

    def __get__(self, instance: Owner | None, owner: Any = None) -> "Result | lazy_property[Owner, Result]":
        """Compute the value and store it as an attribute of the instance, which replaces this property."""
        if instance is None:
            return self
        value = self._compute(instance)
        kept: Result = instance.__dict__.setdefault(self._compute.__name__, value)
        return kept


@contextlib.contextmanager
def delay_forks() -> Iterator[None]:
    """Make forks wait while the block imports something: a child forked during an import could never import it."""
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
    """Replace the locks of tqdm, which even a hidden progress bar takes.

    The lock between processes is dropped. If a thread of the parent held it during the fork, the child counts that
    thread for ever: the first thread that takes the lock there never releases it, and the parent waits too. Without it,
    bars of several processes may be drawn over each other.
    """
    progress = sys.modules.get("tqdm.std")  # slow to import, and most commands show no bar
    if progress is None:
        return
    default = progress.TqdmDefaultWriteLock
    default.th_lock = threading.RLock()
    if not hasattr(default, "mp_lock"):
        return  # no bar has been made
    default.mp_lock = None
    lock, classes = default(), [progress.tqdm]
    while classes:
        bar = classes.pop()
        classes += bar.__subclasses__()
        bar.monitor = None  # a thread, which the child does not have
        if isinstance(bar.get_lock(), default):
            bar.set_lock(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _importing.acquire(),
        after_in_parent=lambda: _importing.release(),
        after_in_child=_renew_in_child,
    )
