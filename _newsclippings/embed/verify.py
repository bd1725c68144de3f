"""Check a folder of vectors: `newsclippings embed OUT --check`."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.items import Items
from _newsclippings.embed.loop import Vectors, encode, prepare, range_of
from _newsclippings.embed.make import TEXTS, Source, check_of, check_out, make_encoder, make_request
from _newsclippings.embed.parts import Folder
from _newsclippings.embed.ranks import find_device
from _newsclippings.embed.reader import Reader, Unread
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import NAME
from _newsclippings.inputs import find_inputs
from _newsclippings.storage import Access, cache_folder
from _newsclippings.tables import Int64s
from _newsclippings.text import option, printable
from _newsclippings.vectors import PLAN, SUMS

ENCODED_AGAIN = 64  # items that are encoded again
LEAST_COSINE = 0.999  # of a vector with the one that is made now
_SHOWN = 5


@dataclass
class VectorsReport:
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

    folder: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ids: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    least_cosine: float | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**asdict(self), "sound": self.sound}

    def __str__(self) -> str:
        unread = "".join(f"; {count:,} without a vector: {reason}" for reason, count in self.unread.items())
        cosine = "" if self.least_cosine is None else f", cosine {self.least_cosine:.6f} or more"
        head = f"{printable(self.folder)}: {self.ids:,} ids{unread}. {self.compared} encoded again{cosine}."
        lines = [*(f"  Wrong: {text}" for text in self.problems), *(f"  Note: {text}" for text in self.notes)]
        return "\n".join([head, *lines, "Sound." if self.sound else "Not sound: run `newsclippings embed` again."])


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
    folder = Folder.open(check_out(out))
    report = VectorsReport(str(folder.path))
    plan = folder.plan
    places: dict[str, Any] = {"visual_news_index": visual_news_index, "links": links, "links_root": links_root}
    request = make_request(data_dir=data_dir, visual_news=visual_news, **places)
    inputs = find_inputs(request, access=Access(storage_options, token))
    if model is None:
        model = _find_model(folder)
    if (planned := plan.encoder.get("augment")) != augment:
        shown = "no augmentation" if planned is None else printable(str(planned))[:200]
        message = f"{folder.path / PLAN} has {shown}. Pass the same {option('augment')}, if you trust it."
        raise ConfigError(message)
    check_of(plan.of, model)
    _check_sums(folder, report)
    ids = _check_parts(folder, report)
    if not len(ids):
        return report
    encoder = make_encoder(model, plan.of, augment, device or find_device())
    source = Source.open(plan.of, ids, inputs, Path(cache_dir or cache_folder(), NAME), whole=False)
    _compare_facts(folder, encoder, source.items, report)
    if encoder.width != plan.width or encoder.several != plan.several:
        report.problems.append(f"the model makes vectors of {encoder.width} numbers, the plan has {plan.width}")
    else:
        _encode_again(folder, encoder, source, report)
    return report


def _find_model(folder: Folder) -> str:
    """Return the model that the plan names; it may come from anyone, so that no code or folder of this machine is."""
    model = folder.plan.encoder.get("model")
    named = model if isinstance(model, str) else ""
    if not named or named.startswith("py:") or "./" in named:
        what = f"the model {printable(named)[:200]!r}, which is of the machine it was made on" if named else "no model"
        message = f"{folder.path / PLAN} names {what}. Pass {option('model')}."
        raise ConfigError(message)
    return named


def _check_sums(folder: Folder, report: VectorsReport) -> None:
    """Compare the files with SHA256SUMS."""
    sums = folder.read_sums()
    if not sums:
        report.problems.append(f"there is no {SUMS}: the folder is not complete")
    now = folder.compute_sums({*sums} & {*folder.names})  # other names may be those of any file of this machine
    for name, digest in sums.items():
        if not now.get(name):
            report.problems.append(f"{printable(name)} is not there")
        elif now[name] != digest:
            report.problems.append(f"{name} does not match {SUMS}")
    if unlisted := [name for name in folder.plan.parts if sums and name not in sums]:
        report.problems.append(f"{SUMS} does not list {unlisted[0]}")
    others = sorted({*os.listdir(folder.path)} - {SUMS, *folder.names})
    report.notes += [f"{printable(name)} is not a file of {PLAN}" for name in others[:_SHOWN]]


def _check_parts(folder: Folder, report: VectorsReport) -> Int64s:
    """Read all parts; return all ids, read and unread, if they are those of the plan, else none."""
    ids, unread = [], report.unread
    for number, name in enumerate(folder.plan.parts):
        try:
            facts = folder.read_facts(number)
        except ConfigError as error:  # a part of another plan
            report.problems.append(str(error))
            return np.empty(0, np.int64)
        if facts is None:
            if not any(problem.startswith(name) for problem in report.problems):
                report.problems.append(f"{name} is not there, or damaged")
            continue
        ids += [facts.ids, *(np.array(each, np.int64) for each in facts.unread.values())]
        report.ids += len(facts.ids)
        for reason, each in facts.unread.items():
            unread[reason] = unread.get(reason, 0) + len(each)
        try:
            _, values, _ = folder.read_vectors(number)
        except BadFileError as error:
            report.problems.append(str(error))
            continue
        wrong = ~np.isfinite(values).all(axis=1) | ~values.any(axis=1)
        if wrong.any():
            report.problems.append(f"{name} has {int(wrong.sum()):,} vectors that are zero or not finite")
    every = np.sort(np.concatenate([np.empty(0, np.int64), *ids]))
    items = Items(folder.plan.of, every, np.empty(0, np.int32), None)
    if len(every) == folder.plan.count and items.hash_ids() == folder.plan.ids_sha256:
        return every
    if report.sound:
        report.problems.append(f"the parts have other ids than {PLAN} says")
    return every


def _compare_facts(folder: Folder, encoder: Encoder, items: Items, report: VectorsReport) -> None:
    """Note what differs between the model of the plan and the one that was opened, and between the inputs."""
    if len(items.ids) == folder.plan.count and items.hash_texts() != folder.plan.encoder.get(TEXTS):
        what = "captions" if items.of == "captions" else "paths of pictures"
        report.notes.append(f"the inputs have other {what} than those that the vectors were made of")
    names = {*encoder.facts, *folder.plan.encoder} - {TEXTS}
    for name in sorted(name for name in names if encoder.facts.get(name) != folder.plan.encoder.get(name)):
        report.notes.append(f"{name} was {folder.plan.encoder.get(name)!r}, and is {encoder.facts.get(name)!r} now")


def _encode_again(folder: Folder, encoder: Encoder, source: Source, report: VectorsReport) -> None:
    """Encode evenly spaced items again, and compare them with their vectors."""
    items, size = source.items, folder.plan.part_size
    chosen = np.unique(np.linspace(0, len(items.ids) - 1, ENCODED_AGAIN).astype(np.int64))
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


def _read_stored(folder: Folder, number: int, ids: Int64s) -> dict[int, npt.NDArray[Any]]:
    """Read the vectors of some ids of a part: id -> (k, width)."""
    try:
        known, values, counts = folder.read_vectors(number)
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
