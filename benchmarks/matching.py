"""What exact matches cost beyond the bare product of matrices: `OMP_NUM_THREADS=1 python -m benchmarks.matching`.

The corpus is invented: captions of events of topics, with vectors that lie in a cone and have a decaying spectrum, and
entities that near neighbours share. Times are CPU seconds, to be compared within one run only. `--count 100000`, or
`--count 467000 --kind text-text`, and `--count 1260000 --blocks 20` are the sizes of VisualNews.
"""

import contextlib
import io
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import numpy.typing as npt

from _newsclippings.generate import Entities, Measure, Pool, Rule, match, normalise
from _newsclippings.generate.search import BLOCK_BYTES, BLOCK_ROWS, Search
from benchmarks.corpus import rng

Array = npt.NDArray[Any]
TOPICS, LATENT, EVERYWHERE, OF_TOPIC, OF_EVENT = 80, 160, 3000, 400, 5
PERSON = Rule(share=("PERSON",), differ=("*",), cap=0.9)
KINDS = ("text-text", "text-image", "person")
MULTIPLIED = 20_480  # captions whose product alone is measured if there are more than 100,000; the rest is computed
_Value = TypeVar("_Value")


@dataclass
class Invented:
    """A corpus: vectors of texts and of pictures, float32 (N, width), and everything else."""

    text: Array
    image: Array
    pool: Pool


def invent(count: int, width: int, folder: Path | None = None) -> Invented:
    """Draw a corpus; with a folder, its vectors are mapped files."""
    random = rng("matching")

    def zipf(size: int, power: float) -> Array:
        weights = np.arange(1, size + 1) ** -power
        share: Array = weights / weights.sum()
        return share

    events = max(1, count // 25)
    topics = random.choice(TOPICS, events, p=zipf(TOPICS, 0.8))
    event = random.choice(events, count, p=zipf(events, 0.75))
    topic = topics[event]
    owners = np.repeat(np.arange(count), np.minimum(1 + random.geometric(0.45, count), 11))
    kind = random.random(len(owners))
    names = np.where(
        kind < 0.28,
        random.choice(EVERYWHERE, len(owners), p=zipf(EVERYWHERE, 1.05)),
        np.where(
            kind < 0.5,
            EVERYWHERE + topic[owners] * OF_TOPIC + random.choice(OF_TOPIC, len(owners), p=zipf(OF_TOPIC, 0.9)),
            EVERYWHERE + TOPICS * OF_TOPIC + event[owners] * OF_EVENT + random.integers(0, OF_EVENT, len(owners)),
        ),
    )
    _, names = np.unique(names, return_inverse=True)
    persons = random.random(names.max() + 1) < 0.35
    pool = Pool(
        count, Entities(count, owners, names.astype(np.int32), persons[names].astype(np.int32), ("X", "PERSON"))
    )

    spectrum = np.arange(1, LATENT + 1) ** -0.5
    of_topic, of_event, of_name = (
        random.standard_normal((size, LATENT), np.float32) * spectrum.astype(np.float32)
        for size in (TOPICS, events, names.max() + 1)
    )
    into = random.standard_normal((LATENT, width)) / np.sqrt(LATENT * width / 8)
    cone = random.standard_normal(width) / np.sqrt(width)
    starts = np.searchsorted(owners, np.arange(count + 1))
    out = {}
    for name, side, noise in (("text", 0.8, 0.35), ("image", -1.2, 0.45)):
        path = folder / f"{name}.npy" if folder else None
        out[name] = (
            np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
            if path
            else np.empty((count, width), np.float32)
        )
        for start in range(0, count, 1 << 15):
            part = slice(start, min(count, start + (1 << 15)))
            size = part.stop - start
            low, high = starts[start], starts[part.stop]
            meaning = np.zeros((size, LATENT))
            np.add.at(meaning, owners[low:high] - start, of_name[names[low:high]])
            meaning *= 0.9 / np.sqrt(np.diff(starts[start : part.stop + 1]))[:, None]
            meaning += 0.8 * of_topic[topic[part]] + 0.7 * of_event[event[part]]
            meaning += (0.7 if name == "text" else 1.1) * random.standard_normal((size, LATENT)) * spectrum
            vectors = meaning @ into + side * cone + noise * random.standard_normal((size, width)) / np.sqrt(width)
            normalise(vectors, out[name][part])
    return Invented(out["text"], out["image"], pool)


def clock(work: Callable[..., _Value], *arguments: Any, **options: Any) -> tuple[_Value, float]:
    """Return what a call returns, and its CPU seconds."""
    start = time.process_time()
    value = work(*arguments, **options)
    return value, time.process_time() - start


def multiply(measure: Measure, rows: Array) -> None:
    """Multiply alone, in blocks of the same size."""
    count = len(measure.against)
    width = min(count, BLOCK_BYTES // (4 * BLOCK_ROWS))
    step = BLOCK_BYTES // (4 * width)
    out = np.empty((step, width), np.float32)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        for at in range(0, count, width):
            columns = slice(at, min(count, at + width))
            measure.multiply(part, columns, out[: len(part), : columns.stop - at])


def fetch_with_faiss(measure: Measure, names: list[set[int]], fetched: int) -> Array:
    """Find the best pictures with a flat index, and take the first that has no entity in common; -1 if none has."""
    import faiss

    index = faiss.IndexFlatIP(measure.against.shape[1])
    index.add(measure.against)
    chosen = np.full(len(names), -1)
    for start in range(0, len(names), 1024):
        _, found = index.search(measure.query[start : start + 1024], fetched)
        for caption, row in enumerate(found.tolist(), start):
            mine = names[caption]
            chosen[caption] = next((each for each in row if each != caption and mine.isdisjoint(names[each])), -1)
    return chosen


class _Encoded:
    """A model of sentence-transformers whose texts are numbers, and whose vectors are known."""

    def __init__(self, measure: Measure) -> None:
        from sentence_transformers.util import dot_score, pairwise_dot_score

        self.device, self.similarity, self.similarity_pairwise = "cpu", dot_score, pairwise_dot_score
        self.get_embedding_dimension = lambda: measure.query.shape[1]
        self.encode_query = lambda texts, **_: measure.query[[int(text) for text in texts]]
        self.encode_document = lambda texts, **_: measure.against[[int(text[1:]) for text in texts]]


def mine(measure: Measure, fetched: int, use_faiss: bool) -> Array:
    """Find the best other picture as `mine_hard_negatives` does, which knows no entities; -1 if there is none."""
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers.util import mine_hard_negatives

    disable_progress_bars()
    count = len(measure.query)
    pairs = {"caption": [f"{k}" for k in range(count)], "picture": [f"p{k}" for k in range(count)]}
    options = {"range_max": fetched, "num_negatives": 1, "faiss_batch_size": 1024, "output_format": "n-tuple"}
    with contextlib.redirect_stderr(io.StringIO()):
        mined = mine_hard_negatives(
            Dataset.from_dict(pairs), _Encoded(measure), use_faiss=use_faiss, verbose=False, **options
        )
    chosen = np.full(count, -1)
    columns = mined.column_names
    chosen[[int(text) for text in mined[columns[0]]]] = [int(text[1:]) for text in mined[columns[2]]]
    return chosen


def compare_peers(measure: Measure, pool: Pool, best: Array, bare: float, fetched: int = 64) -> None:
    """Print what other libraries take for the best picture of each caption, and how often they find the right one."""
    names: list[set[int]] = [set() for _ in range(pool.size)]
    if pool.entities is not None:
        for owner, name in zip(pool.entities.owners.tolist(), pool.entities.names.tolist(), strict=True):
            names[owner].add(name)
    works: dict[str, Callable[[], Array]] = {
        f"faiss flat, the first allowed of {fetched}": lambda: fetch_with_faiss(measure, names, fetched),
        "mine_hard_negatives": lambda: mine(measure, fetched, False),
        "mine_hard_negatives with faiss": lambda: mine(measure, fetched, True),
    }
    rows = np.arange(pool.size)
    for label, work in works.items():
        try:
            chosen, seconds = clock(work)
        except ImportError as error:
            click.echo(f"  {label}: not run, {error}")
            continue
        same = chosen == best
        both = np.flatnonzero((chosen >= 0) & (best >= 0) & ~same)
        same[both] = measure.score(both, chosen[both]) == measure.score(both, best[both])
        forbidden = [k for k in rows[chosen >= 0].tolist() if not names[k].isdisjoint(names[chosen[k]])]
        click.echo(
            f"  {label}: {seconds / bare:.2f} of it; {np.mean(same):.2%} right, {len(forbidden) / pool.size:.2%} "
            f"forbidden, {np.mean(chosen < 0):.2%} without a picture"
        )


def memory() -> str:
    """Return the most memory so far, and how much of the present one is no mapped file."""
    status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""
    own = [int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("RssAnon")]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return f"{most:,} MiB at most, mapped files included" + (f"; {own[0]:,} MiB now without them" if own else "")


@click.command()
@click.option("--count", default=20_000, show_default=True, help="Captions.")
@click.option("--width", default=512, show_default=True, help="Numbers of a vector.")
@click.option("--length", default=None, type=int, help="Pictures found at a time.  [default: that of match]")
@click.option("--blocks", type=int, help="Only argmax, of so many blocks, with mapped vectors.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="What is compared; repeat for more.")
@click.option("--peers", is_flag=True, help="Compare with faiss and sentence-transformers, too, if they are installed.")
def main(count: int, width: int, length: int | None, blocks: int | None, kinds: tuple[str, ...], peers: bool) -> None:
    """Compare matching with the bare product."""
    with tempfile.TemporaryDirectory() as place:
        made = invent(count, width, Path(place) if blocks else None)
        differ, options = Rule(differ=("*",)), {} if length is None else {"length": length}
        for kind in kinds or KINDS[:2]:
            if kind == "person":
                continue
            measure = Measure(made.text, made.text if kind == "text-text" else made.image)
            search = Search(measure, made.pool, differ)
            rows = search.rows if blocks is None else search.rows[: blocks * BLOCK_ROWS]
            some = rows if count <= 100_000 else rows[:MULTIPLIED]
            _, bare = clock(multiply, measure, some)
            bare *= len(rows) / len(some)
            found, best = clock(search.find, rows, 1)
            most = np.bincount(found.pictures[found.pictures >= 0]).max()
            how = f", computed from {len(some):,}" if len(some) < len(rows) else ""
            click.echo(f"{count:,} x {width}, {kind}: product of {len(rows):,} captions alone {bare:.1f} CPU s{how}")
            click.echo(f"  argmax {best / bare:.2f} of it; one picture serves {most:,}")
            if blocks is not None:
                hours = best / len(rows) * count / 3600
                click.echo(
                    f"  all captions: {hours:.1f} core-hours, extrapolated: this time / {len(rows):,} * {count:,}"
                )
            if peers and blocks is None:
                compare_peers(measure, made.pool, found.pictures[:, 0], bare)
            if blocks is not None:
                continue
            once, seconds = clock(match, measure, made.pool, differ, **options)
            click.echo(
                f"  each once {seconds / bare:.2f} of it; {once.products / count:.2f} products per caption, "
                f"{once.rounds} rounds, {np.mean(once.picture >= 0):.2%} filled, {once.counts()}"
            )
            swaps = np.mean(once.picture[once.picture[once.picture >= 0]] == np.flatnonzero(once.picture >= 0))
            click.echo(
                f"  mean score {np.nanmean(once.score):.4f}, of argmax {found.scores.mean():.4f}; swaps {swaps:.1%}"
            )
        if blocks is None and "person" in (kinds or KINDS):
            person, seconds = clock(match, Measure(made.text, made.text), made.pool, PERSON)
            click.echo(f"person: {seconds:.1f} CPU s, {person.pairs / count**2:.2%} of all pairs; {person.counts()}")
    click.echo(f"memory: {memory()}")


if __name__ == "__main__":
    main()
