"""Work done ahead of its consumer, in threads."""

import itertools
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Argument], Result], arguments: Iterable[Argument], ahead: int
) -> Iterator[tuple[Argument, Result]]:
    """Call a function in threads, `ahead` calls before their results are asked for; yields in the order given.

    What the function raises is raised here, in its turn. Who stops early cancels what was not begun.
    """
    waiting: deque[tuple[Argument, Future[Result]]] = deque()
    todo = iter(arguments)
    try:
        while True:
            for argument in itertools.islice(todo, ahead - len(waiting)):
                waiting.append((argument, _submit(pool, function, argument)))
            if not waiting:
                return
            argument, future = waiting.popleft()
            yield argument, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def as_many(threads: int) -> int:
    """How many of some threads to start: each reserves up to 72 MB of address space, which may be limited."""
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
