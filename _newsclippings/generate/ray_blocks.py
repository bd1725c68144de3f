"""The same blocks on a Ray cluster: actors that hold what is searched; Ray starts them again where a worker dies."""

import contextlib
from collections.abc import Iterator
from typing import Any

from _newsclippings.embed import connect_to_ray
from _newsclippings.generate.blocks import Columns, Do, Work
from _newsclippings.tables import Int64s


@contextlib.contextmanager
def start_ray() -> Iterator[Do]:
    """Connect to the Ray cluster of RAY_ADDRESS, or start one on this machine, and yield what does blocks on it.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    with connect_to_ray():
        actors = _Actors()
        yield actors.do


class _Worker:
    """An actor."""

    def __init__(self, subject: Any) -> None:
        """Hold what the work is done with; vectors are mapped on this machine, or copied to its GPU."""
        self._subject = subject

    def do(self, work: Work, number: int, rows: Int64s) -> tuple[int, Columns]:
        return number, tuple(work(self._subject, rows.copy()))


class _Actors:
    """The actors of the present subject."""

    def __init__(self) -> None:
        self._subject: Any = None
        self._workers: list[Any] = []

    def do(self, subject: Any, work: Work, blocks: list[tuple[int, Int64s]]) -> Iterator[tuple[int, Columns]]:
        """Do some blocks; yield them in the order in which they are ready."""
        import ray
        from ray.util import ActorPool

        if not blocks:
            return
        if subject is not self._subject:
            for worker in self._workers:
                ray.kill(worker)
            self._subject, self._workers = subject, []
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        missing = min(len(blocks), gpus or cpus) - len(self._workers)
        if missing > 0:
            kept = ray.put(subject)
            options = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
            start = ray.remote(_Worker).options(**options, max_restarts=-1, max_task_retries=-1).remote
            self._workers += [start(kept) for _ in range(missing)]
        shared, pool = ray.put(work), ActorPool(self._workers)
        yield from pool.map_unordered(lambda worker, block: worker.do.remote(shared, *block), blocks)
