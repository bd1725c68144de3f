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
    """An actor; vectors are mapped on its machine, or copied to its GPU."""

    def __init__(self) -> None:
        self._number, self._subject = 0, None

    def do(self, kept: tuple[int, Any], work: Work, number: int, rows: Int64s) -> tuple[int, Columns]:
        """Do a block with the subject that has this number and reference."""
        import ray

        if kept[0] != self._number:
            self._subject = None  # its memory is needed
            self._number, self._subject = kept[0], ray.get(kept[1])
        return number, tuple(work(self._subject, rows.copy()))


class _Actors:
    """The actors, and the subject that they have now."""

    def __init__(self) -> None:
        self._subject: Any = None
        self._kept: tuple[int, Any] = 0, None
        self._workers: list[Any] = []

    def do(self, subject: Any, work: Work, blocks: list[tuple[int, Int64s]]) -> Iterator[tuple[int, Columns]]:
        """Do some blocks; yield them in the order in which they are ready."""
        import ray
        from ray.util import ActorPool

        if not blocks:
            return
        if subject is not self._subject:
            self._subject, self._kept = subject, (self._kept[0] + 1, ray.put(subject))
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        options = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        start = ray.remote(_Worker).options(**options, max_restarts=-1, max_task_retries=-1).remote
        self._workers += [start() for _ in range(len(self._workers), min(len(blocks), gpus or cpus))]
        kept, shared, pool = self._kept, ray.put(work), ActorPool(self._workers)
        yield from pool.map_unordered(lambda worker, block: worker.do.remote(kept, shared, *block), blocks)
