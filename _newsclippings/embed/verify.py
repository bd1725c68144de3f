"""Check a folder of vectors: `newsclippings embed OUT --check`."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _newsclippings.embed.check import FolderReport, check_parts, check_sums, choose_items, compare_facts, find_model
from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.folder import Folder
from _newsclippings.embed.loop import Vectors, encode, prepare, range_of
from _newsclippings.embed.make import check_of, make_encoder
from _newsclippings.embed.parts import VECTORS, read_vectors
from _newsclippings.embed.ranks import find_device
from _newsclippings.embed.reader import Reader, Unread
from _newsclippings.embed.source import Source, check_out, make_request
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import NAME
from _newsclippings.inputs import find_inputs
from _newsclippings.storage import Access, cache_folder
from _newsclippings.tables import Int64s
from _newsclippings.text import option, printable
from _newsclippings.vectors import PLAN, Plan

LEAST_COSINE = 0.999  # of a vector with the one that is made now
_SHOWN = 5


@dataclass
class VectorsReport(FolderReport):
    """What `verify_vectors` found.

    Attributes:
        folder: the folder of vectors.
        problems: what is wrong.
        notes: what is unusual, but not wrong.
        ids: how many ids have a row.
        unread: reason -> how many have none.
        compared: how many items were encoded again.
        least_cosine: the lowest cosine of a vector with the one that was made now; None if none was.
    """

    command = "embed"
    what = "vectors"
    made = "encoded"
    least_cosine: float | None = None

    def describe_compared(self) -> str:
        """Say how many items were encoded again, and how well they agree."""
        cosine = "" if self.least_cosine is None else f", cosine {self.least_cosine:.6f} or more"
        return f"{super().describe_compared()}{cosine}"


def verify_vectors(
    out: str | os.PathLike[str],
    model: str | Encoder | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    augment: str | None = None,
    device: str | None = None,
    visual_news_index: str | os.PathLike[str] | None = None,
    links: str = "refuse",
    links_root: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> VectorsReport:
    """Check a folder of vectors that `embed` wrote, with the inputs and the model that it was made with.

    It must be complete, match its checksums, and have only finite vectors that are not zero. Up to 64 items, evenly
    spaced, are encoded again: each cosine with the stored vector must be 0.999 or more.

    Args:
        out: the folder.
        model: as in `embed`. Unset: the one that plan.json names, unless that is code or a folder of one's own.
        data_dir: as in `embed`.
        visual_news: as in `embed`.
        augment: as in `embed`; the one that plan.json names.
        device: as in `embed`.
        visual_news_index: as in `embed`.
        links: as in `embed`.
        links_root: as in `embed`.
        cache_dir: as in `embed`.
        storage_options: as in `embed`.
        token: as in `embed`.

    Returns:
        What is wrong, if anything is.

    Raises:
        NewsCLIPpingsError: there is no plan, or the inputs or the model cannot be opened.
    """
    folder = Folder.open(check_out(out), VECTORS)
    report = VectorsReport(str(folder.path))
    plan = folder.plan
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(data_dir=data_dir, visual_news=visual_news, **places)
    inputs = find_inputs(request, access=Access(storage_options, token))
    if model is None:
        model = find_model(folder.path, plan.encoder)
    if (planned := plan.encoder.get("augment")) != augment:
        shown = "no augmentation" if planned is None else printable(str(planned))[:200]
        message = f"{folder.path / PLAN} has {shown}. Pass the same {option('augment')}, if you trust it."
        raise ConfigError(message)
    check_of(plan.of, model)
    check_sums(folder, report)
    ids = check_parts(folder, report, lambda number: _find_wrong(folder, number))
    if not len(ids):
        return report
    encoder = make_encoder(model, plan.of, augment, device or find_device())
    source = Source.open(plan.of, ids, inputs, Path(cache_dir or cache_folder(), NAME), whole=False)
    compare_facts(plan.count, plan.encoder, encoder.facts, source.items, report)
    if encoder.width != plan.width or encoder.several != plan.several:
        report.problems.append(f"the model makes vectors of {encoder.width} numbers, the plan has {plan.width}")
    else:
        _encode_again(folder, encoder, source, report)
    return report


def _find_wrong(folder: Folder[Plan], number: int) -> str | None:
    _, values, _ = read_vectors(folder, number)
    wrong = ~np.isfinite(values).all(axis=1) | ~values.any(axis=1)
    name = folder.place(number).name
    return f"{name} has {int(wrong.sum()):,} vectors that are zero or not finite" if wrong.any() else None


def _encode_again(folder: Folder[Plan], encoder: Encoder, source: Source, report: VectorsReport) -> None:
    """Encode evenly spaced items again, and compare them with their vectors."""
    items, size = source.items, folder.plan.part_size
    chosen = choose_items(len(items.ids))
    reader = Reader(items, source.pictures, encoder.side)
    stored: dict[int, npt.NDArray[Any]] = {}
    for number in np.unique(chosen // size).tolist():
        start, stop = range_of(items, number, size)
        stored |= _read_stored(folder, number, items.ids[chosen[(chosen >= start) & (chosen < stop)]])
    places = [place for place in chosen.tolist() if int(items.ids[place]) in stored and items.rows[place] >= 0]
    cosines = {}
    for start in range(0, len(places), encoder.batch):
        several = np.array(places[start : start + encoder.batch], np.int64)
        values = prepare(encoder, items.ids[several], reader.read(items.rows[several]))
        pairs = zip(several.tolist(), values, strict=True)
        batch = [(place, value) for place, value in pairs if not isinstance(value, Unread)]
        for number, again in _split(items.ids, encode(encoder, items.ids, batch)) if batch else ():
            cosines[number] = _least_cosine(stored[number], again)
    report.compared = len(cosines)
    report.least_cosine = min(cosines.values(), default=None)
    wrong = [number for number, cosine in cosines.items() if not cosine >= LEAST_COSINE]
    if wrong:
        shown = ", ".join(f"{number} ({cosines[number]:.3f})" for number in wrong[:_SHOWN])
        many = f"{len(wrong)} of {len(cosines)} items that were encoded again have another vector"
        report.problems.append(f"{many}. Ids and cosines: {shown}")
    if not cosines:
        report.problems.append("none of the items could be read to be encoded again")


def _read_stored(folder: Folder[Plan], number: int, ids: Int64s) -> dict[int, npt.NDArray[Any]]:
    """Read the vectors of some ids of a part: id -> (k, width)."""
    try:
        known, values, counts = read_vectors(folder, number)
    except BadFileError:
        return {}  # named by `_check_parts`
    wanted = {*ids.tolist()}
    stops = np.cumsum(counts)
    return {
        name: values[stop - count : stop]
        for name, stop, count in zip(known.tolist(), stops.tolist(), counts.tolist(), strict=True)
        if name in wanted
    }


def _split(ids: Int64s, vectors: Vectors) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    stops = np.cumsum(vectors.counts).tolist()
    for place, stop, count in zip(vectors.places.tolist(), stops, vectors.counts.tolist(), strict=True):
        yield int(ids[place]), vectors.values[stop - count : stop]


def _least_cosine(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> float:
    """Return the lowest cosine of vectors in the same order; -1 if their numbers differ, 1 if there are none."""
    if len(old) != len(new):
        return -1.0
    old, new = old.astype(np.float64), new.astype(np.float64)
    lengths = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    return float(((old * new).sum(axis=1) / np.maximum(lengths, 1e-300)).min(initial=1.0))
