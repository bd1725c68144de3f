"""Which process this is of several that `torchrun` or `srun` started, and which device it takes."""

import os
from importlib.util import find_spec

from _newsclippings.errors import ConfigError
from _newsclippings.text import option

_STARTERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID")


def find_rank(rank: int | None = None, world: int | None = None) -> tuple[int, int]:
    """Find the number of this process and how many there are: as given, else as torchrun or srun say; else 0 of 1.

    Raises:
        ConfigError: only one of them is given, or they are no such numbers.
    """
    if (rank is None) != (world is None):
        message = f"{option('rank')} and {option('world')} belong together. Pass both, or neither."
        raise ConfigError(message)
    if rank is not None and world is not None:
        return _check(rank, world, f"{option('rank', str(rank))} {option('world', str(world))}")
    for names in _STARTERS:
        texts = [os.environ.get(name, "") for name in names]
        if all(texts):
            said = " ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            numbers = [int(text) if text.isdecimal() else -1 for text in texts]
            return _check(numbers[0], numbers[1], said)
    return 0, 1


def _check(rank: object, world: object, said: str) -> tuple[int, int]:
    if type(rank) is not int or type(world) is not int or not 0 <= rank < world:
        message = f"{said}: expected a rank from 0 on that is below the number of processes."
        raise ConfigError(message)
    return rank, world


def find_device() -> str | None:
    """Return the GPU of this process, if torchrun or srun started several on this machine; else None."""
    local = next((os.environ[name] for name in _LOCAL if os.environ.get(name, "").isdecimal()), None)
    if local is None or find_spec("torch") is None:
        return None
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(local) % count}" if count else None
