"""Work done ahead of its consumer, in threads."""

import itertools
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
                waiting.append((argument, pool.submit(function, argument)))
            if not waiting:
                return
            argument, future = waiting.popleft()
            yield argument, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
