"""Where an approximate search looks: cells of pictures that are near each other, an inverted file (IVF) of faiss.

Only the cells are approximate. Whatever a caption is compared with, `Search` judges and scores as always.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import numpy as np

from _newsclippings.errors import ConfigError, MissingDependencyError
from _newsclippings.generate.blocks import Columns, Run
from _newsclippings.generate.entities import Lists
from _newsclippings.generate.rules import Method, Rule
from _newsclippings.generate.search import CELLS_PROBED, Measure, Near, find_cells
from _newsclippings.tables import Int64s
from _newsclippings.text import option

MOST_EXACT: Final = 2_000_000  # captions up to which all are compared, within hours
_CELLS = 4  # times the root of the number of pictures, as faiss advises
_TRAINED = 64  # pictures of a cell, by which k-means finds the cells; faiss asks for 39 at least
_ROUNDS = 10  # of k-means
_SEED = 0


def check_approximate(engine: str | None, device: str | None) -> str:
    """Check that an approximate search can be made here; return how it is made, for the manifest.

    Args:
        engine: see `generate`.
        device: where torch would compare vectors.

    Raises:
        ConfigError: the search is not on CPUs of this process.
        MissingDependencyError: faiss is not installed.
    """
    name = option("approximate")
    if engine is not None:
        message = f"{name} does not go with {option('engine', engine)}. Leave one of them out, or start several ranks."
        raise ConfigError(message)
    if device is not None:
        message = f"{name} is for CPUs, and torch compares vectors on {device}, which is exact and fast. Leave it out."
        raise ConfigError(message)
    if find_spec("faiss") is None:
        message = f"{name} needs faiss, which is not installed: pip install 'newsclippings[approximate]'."
        raise MissingDependencyError(message)
    import faiss

    return f"faiss {faiss.__version__}: {' or '.join(map(str, CELLS_PROBED))} of {_CELLS} sqrt(N) cells"


def is_approximate(rule: Rule, captions: int) -> bool:
    """Return whether a method of this rule may be approximate: it compares all of very many captions."""
    return captions > MOST_EXACT and not rule.share and not rule.same


def check_needed(methods: Sequence[Method], captions: int) -> None:
    """Raise `ConfigError` if no method may be approximate in a split of so many captions, the largest one."""
    if not any(is_approximate(method.rule, captions) for method in methods):
        why = f"a split has {captions:,} at the most"
        if captions > MOST_EXACT:
            why = "methods with share or same compare few of them"
        message = f"{option('approximate')} is for methods that compare more than {MOST_EXACT:,} captions, and {why}."
        raise ConfigError(f"{message} Leave it out: the exact search takes hours at the most.")


def find_near(measure: Measure, run: Run) -> Near:
    """Divide pictures into cells.

    Args:
        measure: the vectors.
        run: finds the centroids, which are the same in all processes.
    """
    size = len(measure.against)
    cells = np.arange(min(size, math.ceil(_CELLS * math.sqrt(size))))
    (centroids,) = run(measure, _train, cells, np.zeros(len(cells), np.int64))
    own = find_cells(measure.against, centroids, 1).ravel()
    return Near(centroids, Lists(np.arange(size + 1), own).invert())


def _train(measure: Measure, cells: Int64s) -> Columns:
    """Return the centroids of as many cells, float32 (cells, width), by k-means on some pictures."""
    import faiss

    size, width = measure.against.shape
    drawn = np.random.default_rng(_SEED).choice(size, min(size, _TRAINED * len(cells)), replace=False)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": _TRAINED}
    kmeans = faiss.Kmeans(width, len(cells), niter=_ROUNDS, seed=_SEED, spherical=True, **limits)
    kmeans.train(measure.against[np.sort(drawn)])
    return (kmeans.centroids,)
