"""What a baseline is: methods that learn from labelled rows and then score rows, and the numbers published for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from _newsclippings.facts import DEFAULT_CONFIG
from _newsclippings.suite.rows import Bools, Floats, Rows

BY_VALIDATION: Final = "val"  # as a threshold: the best one on the validation split, which `evaluate` chooses
SHIPPED_VECTORS: Final = "CLIP ViT-B/32, shipped"
LARGE_CLIP: Final = "CLIP ViT-L/14"

Scorer = Callable[[Rows], Floats]  # returns a score of each row, higher for falsified
# Takes train, its labels, validation, its labels, and a seed. It never sees the test split.
Fit = Callable[[Rows, Bools, Rows, Bools, int], Scorer]


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        value: the number, a share.
        source: where it is from.
        vectors: the vectors that it was measured with; empty if it does not depend on vectors.
        measure: a name of `MEASURES`.
        differs: why ours is not the same experiment; empty if it is. Then there is no verdict.
    """

    value: float
    source: str
    vectors: str = ""
    measure: str = "accuracy"
    differs: str = ""


@dataclass(frozen=True)
class Expected:
    """What the accuracy of a prior or of a control has to be.

    Attributes:
        value: 0.5 for chance, or 1 for a label that is planted in the rows.
        positive: the method that has to beat chance before this one proves anything; empty for a prior.
    """

    value: float = 0.5
    positive: str = ""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: its name.
        fit: learns, and returns what scores rows.
        columns: the columns of vectors that it reads.
        published: the number to compare with; None if there is none.
        threshold: a score above it calls a row falsified: a number, or `BY_VALIDATION`.
        seeded: whether it depends on the seed; if not, it runs once.
        expected: of priors and controls; None for others.
    """

    name: str
    fit: Fit
    columns: tuple[str, ...] = ()
    published: Published | None = None
    threshold: float | str = BY_VALIDATION
    seeded: bool = True
    expected: Expected | None = None


Line = dict[str, Any]  # a row of the table, as `Benchmark.lines` describes it


@dataclass(frozen=True)
class Baseline:
    """A baseline of `newsclippings benchmark`.

    Attributes:
        name: its name on the command line.
        about: what it is, in a sentence.
        needs: what it reads.
        cost: how long it takes.
        methods: its methods; empty if `run` does not take them from here.
        published: numbers that `benchmark --list` names, beside those of the methods.
        differences: what is not as in the public code, each with its source.
        configs: the configs that it is for, unless the user names one.
        run: takes a `Run`, and returns the lines of the table.
    """

    name: str
    about: str
    needs: str
    cost: str
    methods: tuple[Method, ...] = ()
    published: tuple[Published, ...] = ()
    differences: tuple[str, ...] = ()
    configs: tuple[str, ...] = (DEFAULT_CONFIG,)
    run: Callable[[Any], list[Line]] = lambda run: run.measure_methods()

    def list_published(self) -> list[tuple[str, Published]]:
        """Return the name of a method, or nothing, and each published number."""
        of_methods = [(method.name, method.published) for method in self.methods if method.published]
        return [*of_methods, *(("", number) for number in self.published)]
